"""What an exercise asks the cluster: one check for each kind of thing that a task can leave behind."""

import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from numbers import Real
from typing import Any

from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, TopicDescription
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.error import SchemaRegistryError

from kafkalab.cluster.connectors import ask, state
from kafkalab.cluster.lab import Lab
from kafkalab.cluster.messages import all_messages, decode
from kafkalab.cluster.progress import lags
from kafkalab.errors import LabError
from kafkalab.waiting import ANSWER_SECONDS

_SHOWN = 80  # characters of a value in a message
_SHOWN_CAUSE = 200  # of the cause of a failure
_PATIENCE = {"RUNNING": 30, "UNASSIGNED": 60, "RESTARTING": 60}  # seconds that a connector in such a state gets
_STATE_SECONDS = 5  # that a state may be told which is over: from the others, no connector comes by itself
_NOTHING_CAME = "whether your cell sends anything, and waits until that has arrived"


class CheckError(LabError):
    """A task is not done: what the check found, what it expected, and where to look."""


class Checks:
    """Questions to one cluster; each raises `CheckError` where the answer is not what the task asks for.

    `look` is where the learner should look then, as the end of "Look at …". Names are those of the cluster, as
    `Lab.name` makes them.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._admin = AdminClient({**lab.client, "log_level": 0})

    def that(self, holds: object, found: str, expected: str, look: str) -> None:
        """Check something that has no check of its own."""
        if not holds:
            raise CheckError(f"Found {found}, expected {expected}. Look at {look}.")

    def answer(self, given: Any, right: Any, look: str, fact: str = "") -> None:
        """Check an answer against what was just measured.

        Args:
            given: The answer; `...` stands for none.
            right: What was measured.
            look: See the class.
            fact: What the right answer is put behind, such as "the topic holds", for a prediction whose outcome is on
                the screen already. Without it the message does not tell the right answer.
        """
        if given is ...:
            raise CheckError(f"There is no answer yet. Look at {look}.")
        kinds = _kind(given), _kind(right)
        if kinds[0] != kinds[1]:
            raise CheckError(f"You said {_short(given)}, a {kinds[0]}; the answer is a {kinds[1]}. Look at {look}.")
        if kinds[1] == "list":
            given, right = [*given], [*right]
        if not (math.isclose(given, right) if kinds[1] == "number" else given == right):
            outcome = f"{fact} {_short(right)}" if fact else "the cluster says otherwise"
            raise CheckError(f"You said {_short(given)}, {outcome}. Look at {look}.")

    def topic(
        self, name: str, *, look: str, partitions: int | None = None, replicas: int | None = None,
        in_sync: int | None = None, **config: str,
    ) -> TopicDescription:  # fmt: skip
        """Check that a topic exists, its partitions, and for each of them replicas and in-sync replicas.

        Args:
            name: The topic.
            look: See the class.
            partitions: How many.
            replicas: How many each partition has.
            in_sync: How many of these are in sync.
            config: Topic configuration, with `_` for `.`, as in `cleanup_policy="compact"`.
        """
        topic = self._lab.describe(name)
        if topic is None:
            raise CheckError(f"There is no topic {name!r} yet. Look at {look}.")
        if partitions is not None:
            found = f"{len(topic.partitions)} partition(s) in {name!r}"
            self.that(len(topic.partitions) == partitions, found, str(partitions), look)
        for part in topic.partitions:
            place = f"of partition {part.id} of {name!r}"
            if replicas is not None:
                self.that(
                    len(part.replicas) == replicas, f"{len(part.replicas)} replica(s) {place}", f"{replicas}", look
                )
            if in_sync is not None:
                self.that(len(part.isr) == in_sync, f"{len(part.isr)} in-sync replica(s) {place}", f"{in_sync}", look)
        if config:
            resource = ConfigResource(ConfigResource.Type.TOPIC, name)
            entries = self._admin.describe_configs([resource])[resource].result()
            for key, value in config.items():
                option = key.replace("_", ".")
                found = entries[option].value
                self.that(found == value, f"{option}={found} on {name!r}", value, look)
        return topic

    def messages(self, topic: str, *, look: str) -> list[Message]:
        """Return every message of a topic that a reader of committed ones gets, in the order of the partitions."""
        self.topic(topic, look=look)
        return all_messages(self._lab.client, topic)

    def values(
        self, topic: str, expected: Sequence[object], *, look: str, in_order: bool = False, empty: str = _NOTHING_CAME
    ) -> None:
        """Check the decoded content of a topic: records where messages carry a schema id, text where they do not.

        Args:
            topic: The topic.
            expected: What it shall hold, no more and no less.
            look: See the class.
            in_order: The order counts too, that of offsets within one partition after the other.
            empty: Where to look instead of `look` if the topic holds nothing at all.
        """
        found = self._decoded(topic, look)
        self.that(found or not expected, f"no message in {topic!r}", f"{len(expected)} message(s)", empty)
        wanted, there = Counter(map(_plain, expected)), Counter(map(_plain, found))
        if wanted != there:
            surplus, missing = there - wanted, wanted - there
            word, odd = ("among them", surplus) if surplus else ("but not", missing)
            first = cut(next(iter(odd)), _SHOWN)
            wish = "others" if len(found) == len(expected) else f"{len(expected)} message(s)"
            self.that(None, f"{len(found)} message(s) in {topic!r}, {word} {first}", wish, look)
        if in_order:
            found_so = f"the right messages in {topic!r}, but in another order"
            self.that(list(found) == list(expected), found_so, "the order that the task names", look)

    def keys(self, topic: str, expected: Collection[str], *, look: str) -> None:
        """Check that every message has a key, that these are the keys, and that each of them is on one partition."""
        places: dict[str | None, set[int | None]] = defaultdict(set)
        for message in self.messages(topic, look=look):
            key = message.key()
            places[None if key is None else key.decode(errors="replace")].add(message.partition())
        self.that(None not in places, f"messages without a key in {topic!r}", "a key on each", look)
        odd = sorted(key or "" for key in set(places) ^ set(expected))
        found = f"{len(places)} different key(s) in {topic!r}"
        self.that(not odd, found, f"{len(expected)} ({_short(odd[0]) if odd else ''} is the first that differs)", look)
        for name, partitions in places.items():
            found = f"the key {name!r} on {len(partitions)} partitions of {topic!r}"
            self.that(len(partitions) == 1, found, "each key on one", look)

    def encoded(self, topic: str, subject: str, *, look: str) -> None:
        """Check that every message names a schema of the subject by its id, in the registry's wire format."""
        with SchemaRegistryClient(self._lab.registry) as registry:
            ids = {
                registry.get_version(subject, version).schema_id for version in self._versions(registry, subject, look)
            }
        messages = self.messages(topic, look=look)
        self.that(messages, f"no message in {topic!r}", "some", _NOTHING_CAME)
        for message in messages:
            value = message.value() or b""
            named = int.from_bytes(value[1:5], "big") if value[:1] == b"\0" and len(value) >= 5 else None
            found = "no schema id" if named is None else f"schema id {named}"
            place = f"{found} in the message at offset {message.offset()} of {topic!r}"
            self.that(named in ids, place, f"one of {subject!r}", look)

    def group(
        self, name: str, topic: str, *, look: str, committed: int | None = None, lag: int | None = None,
        members: int | None = None,
    ) -> None:  # fmt: skip
        """Check how far a consumer group is.

        Args:
            name: The group.
            topic: The topic that it reads.
            look: See the class.
            committed: The sum of its committed offsets over the topic's partitions.
            lag: The sum of what lies between the committed offsets and the ends.
            members: How many consumers are in it.
        """
        places = [TopicPartition(topic, part.id) for part in self.topic(topic, look=look).partitions]
        with Consumer({**self._lab.client, "group.id": name}) as group:  # never subscribes, so it joins nothing
            offsets = group.committed(places, ANSWER_SECONDS)
        if all(place.offset < 0 for place in offsets):
            raise CheckError(f"Group {name!r} has committed nothing in {topic!r} yet. Look at {look}.")
        done = sum(max(place.offset, 0) for place in offsets)
        left = sum(left for left in lags(self._admin, offsets) if left)
        if committed is not None:
            self.that(done == committed, f"{done} committed by {name!r} in {topic!r}", f"{committed}", look)
        if lag is not None:
            self.that(left == lag, f"a lag of {left} of {name!r} in {topic!r}", f"{lag}", look)
        if members is not None:
            there = len(self._admin.describe_consumer_groups([name])[name].result().members)
            self.that(there == members, f"{there} member(s) in {name!r}", f"{members}", look)

    def subject(
        self, name: str, *, look: str, versions: int | None = None, compatibility: str | None = None,
        fields: Collection[str] | None = None, takes: Mapping[str, object] | None = None,
        refuses: Mapping[str, object] | None = None,
    ) -> None:  # fmt: skip
        """Check a subject of the schema registry.

        Args:
            name: The subject.
            look: See the class.
            versions: How many it has.
            compatibility: Its level, such as `FULL`.
            fields: The names of the fields of its latest version, a record.
            takes: An Avro schema that the registry would take as the next version.
            refuses: One that it would not.
        """
        with SchemaRegistryClient(self._lab.registry) as registry:
            there = self._versions(registry, name, look)
            if versions is not None:
                self.that(len(there) == versions, f"{len(there)} version(s) of {name!r}", f"{versions}", look)
            if compatibility is not None:
                level = _level(registry, name)
                self.that(level == compatibility, f"the level {level} on {name!r}", compatibility, look)
            if fields is not None:
                latest = json.loads(registry.get_latest_version(name).schema.schema_str)
                names = sorted(field["name"] for field in latest.get("fields", []))
                self.that(names == sorted(fields), f"the fields {names} in {name!r}", f"{sorted(fields)}", look)
            for schema, wanted in ((takes, True), (refuses, False)):
                if schema is not None:
                    taken = registry.test_compatibility(name, Schema(json.dumps(schema), "AVRO"))
                    words = {True: "takes", False: "refuses"}
                    found = f"that {name!r} {words[taken]} the schema {json.dumps(schema)}"
                    self.that(taken is wanted, found, f"that it {words[wanted]} it", look)

    def connector(self, name: str, *, look: str, until: Callable[[], object] | None = None) -> bool:
        """Check that Connect runs a connector with all of its tasks, and wait for what it does.

        Args:
            name: The connector.
            look: See the class.
            until: What a running connector gets half a minute for; without it, the start of its tasks is waited for.

        Returns:
            Whether that has come about.
        """
        stack = self._lab.stack
        if stack is None:
            raise LabError("Connect is asked on a stack of one's own alone: give the task `on=own`")
        start = time.monotonic()
        while True:
            found, cause = state(stack, name)
            done = found == "RUNNING" and bool(until is None or until())
            if done or not found or time.monotonic() - start > _PATIENCE.get(found, _STATE_SECONDS):
                break
            time.sleep(0.2)
        if not found:
            others = ", ".join(map(repr, ask(stack, "GET", "/connectors").json())) or "none"
            raise CheckError(f"There is no connector {name!r} yet; there is {others}. Look at {look}.")
        why = f" ({cut(cause, _SHOWN_CAUSE)})" if cause else ""
        self.that(found == "RUNNING", f"the connector {name!r} {found}{why}", "it to run", look)
        return done

    def _decoded(self, topic: str, look: str) -> list[Any]:
        address, by_topic = self._lab.registry, {"subject.name.strategy": topic_subject_name_strategy}
        with SchemaRegistryClient(address) if address["url"] else nullcontext() as registry:
            deserialize = AvroDeserializer(registry, conf=by_topic) if registry else None
            values = []
            for message in self.messages(topic, look=look):
                try:
                    values.append(decode(message, deserialize, registry))
                except ValueError:
                    place = f"at offset {message.offset()} of {topic!r}"
                    found = f"the bytes {_short(message.value())} {place}"
                    self.that(None, found, "a message that can be decoded", look)
        return values

    def _versions(self, registry: SchemaRegistryClient, subject: str, look: str) -> list[int]:
        try:
            return registry.get_versions(subject)
        except SchemaRegistryError as error:
            if error.http_status_code != 404:
                raise
            raise CheckError(f"There is no subject {subject!r} yet. Look at {look}.") from None


def _level(registry: SchemaRegistryClient, subject: str) -> str:
    try:
        return registry.get_compatibility(subject)
    except SchemaRegistryError:  # none of its own: that of the registry holds
        return registry.get_compatibility()


def _plain(value: object) -> Any:
    """Return a decoded value in a form that can be counted."""
    return repr(dict(sorted(value.items()))) if isinstance(value, Mapping) else repr(value)


def _kind(value: object) -> str:
    """Return what sort of answer this is; numbers of Python and NumPy are one sort, lists and tuples, all dicts too."""
    if isinstance(value, Real) and not isinstance(value, bool):
        return "number"
    if isinstance(value, Mapping):
        return "dict"
    return "list" if isinstance(value, list | tuple) else type(value).__name__


def _short(value: object) -> str:
    return cut(repr(value), _SHOWN)


def cut(text: str, characters: int) -> str:
    """Return a text, or its beginning if it is longer."""
    return text if len(text) <= characters else f"{text[:characters]}…"
