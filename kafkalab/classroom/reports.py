"""A class on one cluster: the outcomes of checks as messages, and the table that a teacher watches."""

from collections import defaultdict
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx2
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.error import SchemaRegistryError

from kafkalab.classroom.checks import cut
from kafkalab.cluster.lab import Lab
from kafkalab.cluster.messages import all_messages, decode, printable
from kafkalab.cluster.progress import lags
from kafkalab.errors import LabError
from kafkalab.programs.avro_producer import AvroProducer
from kafkalab.settings import SCHEMAS
from kafkalab.waiting import ANSWER_SECONDS

TOPIC = "kafkalab-checks"
SCHEMA = SCHEMAS / "check.avsc"
NOBODY = "(no name)"  # whose KAFKALAB_LEARNER is not set
_SHOWN = 60  # characters of a finding in the table


def report(lab: Lab, lesson: str, task: int, tasks: int, finding: str) -> None:
    """Send the outcome of a check; the newest of each learner and task is what counts.

    Args:
        lab: The cluster of the class.
        lesson: The number of its lesson, such as "03".
        task: The number of the task, from 1.
        tasks: How many tasks the exercise has.
        finding: Why it failed; empty if it passed.

    Raises:
        LabError: It was not acknowledged.
    """
    lab.topic(TOPIC, 1, cleanup_policy="compact")
    learner = lab.learner or NOBODY
    record = {"learner": learner, "lesson": lesson, "task": task, "tasks": tasks}
    with AvroProducer(lab, TOPIC, SCHEMA) as producer:
        producer.send({**record, "passed": not finding, "finding": finding}, key=f"{learner}/{lesson}/{task}")


def table(lab: Lab) -> list[dict[str, Any]]:
    """Return a row for each learner and lesson, as `kafkalab class --json` prints it.

    A learner who has made a topic but not run a check yet has a row without a lesson.

    Returns:
        `learner`, `lesson`, `passed` and `tasks` (numbers of checks), `last_seen` (of the newest check, ISO 8601),
        `finding` (of the newest check that failed and has not passed since), `lag` (of all groups of the learner, in
        messages; None without a name).

    Raises:
        LabError: The cluster cannot be asked.
    """
    try:
        return _rows(lab)
    except (KafkaException, SchemaRegistryError, httpx2.HTTPError) as error:
        raise LabError(f"the cluster of the class could not be asked: {error}") from None


def text(rows: list[dict[str, Any]]) -> str:
    """Return the table for a terminal, times in that of this machine."""
    import pandas as pd  # noqa: PLC0415 - half a second that only tables need

    if not rows:
        return "Nobody has run a check or made a topic under a learner's name yet."
    shown = pd.DataFrame(rows)
    shown["passed"] = [f"{row['passed']} of {row['tasks']}" if row["lesson"] else "" for row in rows]
    shown["lag"] = ["" if row["lag"] is None else str(row["lag"]) for row in rows]
    shown["learner"] = [printable(row["learner"]) for row in rows]
    shown["lesson"] = [printable(row["lesson"]) for row in rows]
    shown["open"] = [printable(cut(row["finding"], _SHOWN)) for row in rows]
    times = pd.to_datetime(shown["last_seen"], utc=True).dt.tz_convert(datetime.now().astimezone().tzinfo)
    shown["last seen"] = times.dt.strftime("%H:%M:%S").fillna("")
    return shown[["learner", "lesson", "passed", "last seen", "lag", "open"]].to_string(index=False, justify="left")


def _rows(lab: Lab) -> list[dict[str, Any]]:
    newest = _newest(lab)
    rows = {}
    for (learner, lesson), checks in newest.items():
        last = max(checks, key=lambda check: check["at"])
        open_ = [f"Task {check['task']}: {check['finding']}" for check in checks if not check["passed"]]
        rows[learner, lesson] = {
            "learner": learner,
            "lesson": lesson,
            "passed": sum(check["passed"] for check in checks),
            "tasks": last["tasks"],
            "last_seen": datetime.fromtimestamp(last["at"] / 1000, UTC).isoformat(timespec="seconds"),
            "finding": open_[-1] if open_ else "",
        }
    known = {learner for learner, _ in rows}
    for learner in lab.learners() - known:
        rows[learner, ""] = {"learner": learner, "lesson": "", "passed": 0, "tasks": 0, "last_seen": "", "finding": ""}
    lag = _lags(lab, {learner for learner, _ in rows} - {NOBODY})
    return [{**row, "lag": lag.get(row["learner"])} for _, row in sorted(rows.items())]


def _newest(lab: Lab) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return the newest report of each task, by learner and lesson, in the order in which they came."""
    lab.topic(TOPIC, 1, cleanup_policy="compact")
    reports: dict[tuple[str, str, int], dict[str, Any]] = {}
    with SchemaRegistryClient(lab.registry) as registry:
        by_topic = {"subject.name.strategy": topic_subject_name_strategy}
        deserialize = AvroDeserializer(registry, SCHEMA.read_text(encoding="utf-8"), conf=by_topic)
        for message in all_messages(lab.client, TOPIC):
            with suppress(ValueError):  # who else writes to the topic does not spoil the table
                if isinstance(check := decode(message, deserialize, registry), dict):
                    task = check["learner"], check["lesson"], check["task"]
                    reports.pop(task, None)
                    reports[task] = {**check, "at": message.timestamp()[1]}
    newest = defaultdict(list)
    for (learner, lesson, _), check in reports.items():
        newest[learner, lesson].append(check)
    return newest


def _lags(lab: Lab, learners: set[str]) -> dict[str, int]:
    """Return the lag of each learner's groups together, asked side by side.

    A consumer for each group would take too long for a room, so the admin client asks, which may crash while a broker
    starts (librdkafka issue 5040): then the teacher starts the table again.
    """
    admin = AdminClient({**lab.client, "log_level": 0})  # held by a name until its last answer is there
    groups = [group.group_id for group in admin.list_consumer_groups(request_timeout=ANSWER_SECONDS).result().valid]
    asked = {group: ConsumerGroupTopicPartitions(group) for group in groups if group.split(".")[0] in learners}
    answers = {
        group: admin.list_consumer_group_offsets([ask], request_timeout=ANSWER_SECONDS)[group]
        for group, ask in asked.items()
    }
    committed = [(g.split(".")[0], place) for g, a in answers.items() for place in a.result().topic_partitions]
    total = dict.fromkeys(learners, 0)
    for (learner, _), left in zip(committed, lags(admin, [place for _, place in committed]), strict=True):
        total[learner] += left or 0
    return total
