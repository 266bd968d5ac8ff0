"""Topics that the lab makes, and the notes by which it knows later which ones are its own."""

import json
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic, TopicDescription

from kafkalab.cluster.messages import all_messages
from kafkalab.errors import LabError
from kafkalab.settings import seat
from kafkalab.waiting import ANSWER_SECONDS, wait_until

NOTES = "kafkalab-topics"  # a compacted topic: for each topic that the lab made, its id and who asked for it
_ASK_SECONDS = 0.5  # one question of a wait: an interrupt is heard between two


class Topics:
    """Makes and deletes topics, and touches none that is somebody else's.

    Args:
        client: What a client of the cluster takes.
        learner: Who shares the cluster with others; None outside of a class.
        private: Whether the cluster is the lab's own, where every topic may be deleted.
    """

    def __init__(self, client: Mapping[str, str], learner: str | None, *, private: bool) -> None:
        self._client = client
        self._learner = learner
        self._private = private

    @cached_property
    def admin(self) -> AdminClient:
        """A client that keeps silent about brokers that a lesson kills."""
        return AdminClient({**self._client, "log_level": 0})

    def ensure(self, name: str, partitions: int, config: Mapping[str, str]) -> None:
        """Make a topic unless it exists, and wait until its partitions have leaders.

        Args:
            name: The topic.
            partitions: How many.
            config: Topic configuration, with `_` for `.`.

        Raises:
            LabError: The cluster refuses, does not answer in time, or the topic is that of another learner of the
                same name.
        """
        found = self.describe(name)
        if found and self._is_named_ours(name):
            self._is_ours(found)
        if not found:
            wait_until(
                lambda: self._create(name, partitions, config) or self.describe(name), f"the creation of topic {name!r}"
            )
        wait_until(lambda: self._has_leaders(name), f"leaders of the partitions of topic {name!r}")

    def replace(self, name: str, partitions: int, config: Mapping[str, str]) -> None:
        """Make a topic in place of the one of that name.

        Args:
            name: The topic.
            partitions: How many.
            config: Topic configuration, with `_` for `.`.

        Raises:
            LabError: As `drop`, or another program has made one of that name in this moment.
        """

        def made() -> bool:
            self.drop(name)  # once more, where a client that still asks for the topic made the broker create it
            return self._create(name, partitions, config)

        wait_until(made, f"the creation of topic {name!r}")
        wait_until(lambda: self._has_leaders(name), f"leaders of the partitions of topic {name!r}")

    def drop(self, name: str) -> None:
        """Delete a topic, if there is one of that name, and wait until the brokers have forgotten it.

        Raises:
            LabError: The topic is another learner's, or was not made by the lab on a cluster of somebody else's: it is
                not deleted.
        """
        if self._learner and not self._is_named_ours(name):
            raise LabError(
                f"learner {self._learner!r} deletes only topics of their own: use lab.name, which makes "
                f"'{self._learner}.{name}' of {name!r}"
            )
        found = self.describe(name)
        if found is None:
            return
        if not self._is_ours(found) and (self._learner or not self._private):
            raise LabError(f"topic {name!r} exists and was not made by this lab: nothing was deleted, use another name")
        try:
            self._controlled().delete_topics([name], request_timeout=ANSWER_SECONDS)[name].result()
        except KafkaException as error:
            raise LabError(f"topic {name!r} was not deleted: {error.args[0].str()}") from None
        wait_until(lambda: self.describe(name) is None, f"the deletion of topic {name!r}")

    def describe(self, name: str) -> TopicDescription | None:
        """Return what the brokers know of a topic, None if there is none of that name.

        Raises:
            LabError: The brokers do not tell.
        """
        try:
            topics = TopicCollection([name])
            asked = self._controlled().describe_topics(topics, request_timeout=ANSWER_SECONDS)
            found: TopicDescription = asked[name].result()
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            raise LabError(f"topic {name!r} cannot be described: {error.args[0].str()}") from None
        return found

    def learners(self) -> set[str]:
        """Return the learners for whom the lab has made topics that still exist."""
        there = self.admin.list_topics(timeout=ANSWER_SECONDS).topics
        makers = [note.get("learner") for name, note in self._notes().items() if name in there]
        return {learner for learner in makers if learner}

    def _create(self, name: str, partitions: int, config: Mapping[str, str]) -> bool:
        """Ask for a topic, and return whether it was made: not if there is one, or its deletion is not over yet."""
        topic = NewTopic(name, partitions, config={key.replace("_", "."): value for key, value in config.items()})
        try:
            self._controlled().create_topics([topic], request_timeout=ANSWER_SECONDS)[name].result()
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return False
            raise LabError(f"topic {name!r} was not created: {error.args[0].str()}") from None
        self._note(name)
        return True

    def _is_ours(self, topic: TopicDescription) -> bool:
        """Return whether the lab made this topic, or its name begins with that of the learner.

        Raises:
            LabError: The lab made it for another learner, or for one of the same name at another seat.
        """
        name, note = topic.name, self._notes().get(topic.name, {})
        noted = note.get("id") == str(topic.topic_id)
        learner = note.get("learner")
        if noted and learner and (learner, note.get("seat")) != self._maker:
            who = f"learner {learner!r}" if learner != self._learner else f"another learner of the name {learner!r}"
            raise LabError(
                f"topic {name!r} is that of {who}: it was left as it is, set KAFKALAB_LEARNER to a name that nobody "
                "else has"
            )
        return noted or self._is_named_ours(name)

    def _is_named_ours(self, name: str) -> bool:
        """Return whether a name begins with that of the learner."""
        return self._learner is not None and name.startswith(f"{self._learner}.")

    @property
    def _maker(self) -> tuple[str | None, str | None]:
        """The learner and the seat, which tells two learners of the same name apart."""
        return (self._learner, seat()) if self._learner else (None, None)

    @cached_property
    def _note_taker(self) -> Producer:
        """A producer of notes, in a topic that keeps the newest of each key."""
        if self.describe(NOTES) is None:
            topic = NewTopic(NOTES, 1, config={"cleanup.policy": "compact"})
            with suppress(KafkaException):  # somebody else was faster; who may not learns so from the producer
                self._controlled().create_topics([topic], request_timeout=ANSWER_SECONDS)[NOTES].result()
            wait_until(lambda: self._has_leaders(NOTES), f"a leader of topic {NOTES!r}")
        return Producer({**self._client, "acks": "all", "linger.ms": 0, "log_level": 0})

    def _note(self, name: str) -> None:
        """Keep who made a topic in the cluster itself."""
        made: list[TopicDescription] = []

        def known() -> bool:
            made.extend(filter(None, [self.describe(name)]))
            return bool(made)

        wait_until(known, f"the brokers to know topic {name!r}")
        learner, place = self._maker if self._is_named_ours(name) else (None, None)
        note = json.dumps({"id": str(made[0].topic_id), "learner": learner, "seat": place})
        lost: list[str] = []

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error:
                lost.append(error.str())

        self._note_taker.produce(NOTES, note, name, on_delivery=delivered)
        if self._note_taker.flush(ANSWER_SECONDS) or lost:
            reason = lost[0] if lost else f"no answer within {ANSWER_SECONDS} s"
            raise LabError(f"topic {NOTES!r}, where the lab notes what it made, cannot be written: {reason}")

    def _notes(self) -> dict[str, dict[str, str | None]]:
        """Return the newest note of each topic."""
        notes: dict[str, dict[str, str | None]] = {}
        if self.describe(NOTES) is None:
            return notes
        try:
            for message in all_messages(self._client, NOTES):
                with suppress(ValueError, TypeError):  # who else writes there does not spoil the notes
                    notes[(message.key() or b"").decode()] = dict(json.loads(message.value() or b""))
        except KafkaException as error:
            raise LabError(
                f"topic {NOTES!r}, where the lab notes what it made, cannot be read: {error.args[0].str()}"
            ) from None
        return notes

    def _controlled(self) -> AdminClient:
        """Return the client for questions that go to the controller, once it has heard which broker that is now."""

        def known() -> bool:
            with suppress(KafkaException):
                return self.admin.list_topics(timeout=_ASK_SECONDS).controller_id >= 0
            return False

        wait_until(known, f"a controller among the brokers at {self._client['bootstrap.servers']}", ANSWER_SECONDS)
        return self.admin

    def _has_leaders(self, name: str) -> bool:
        """Ask for a description: a client that has asked for the metadata of a topic goes on asking for it.

        Where brokers create what is asked for (`auto.create.topics.enable`), it would be back after its deletion.
        """
        with suppress(LabError):
            topic = self.describe(name)
            return topic is not None and all(part.leader and part.leader.id >= 0 for part in topic.partitions)
        return False
