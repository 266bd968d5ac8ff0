"""A Lab: the addresses, the client configuration and the handles of one running cluster."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import httpx2
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, TopicDescription
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from kafkalab.embedded.registry import rest
from kafkalab.embedded.stack import Stack
from kafkalab.errors import LabError
from kafkalab.settings import REGISTRY_PREFIX, ClusterSettings, seat
from kafkalab.waiting import wait_until

if TYPE_CHECKING:
    import pandas as pd

ANSWER_SECONDS = 10
_NUMBERS = ("timeout", "max.", "retries.", "cache.")  # how properties of the registry's client begin that are numbers
_ASK_SECONDS = 0.5  # one question of a wait: an interrupt is heard between two
_REQUEST_SECONDS = 3  # after which a question to a coordinator that is still being made is put again
MADE_HERE = "kafkalab-made"  # the group whose committed metadata holds the ids of topics that the lab made
_COORDINATOR_COMES = (
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError._TIMED_OUT,  # noqa: SLF001 - so the client calls its own errors
)


@dataclass(frozen=True, repr=False)
class Lab:
    """One running cluster.

    Attributes:
        client: What every `confluent_kafka` client of this cluster takes: `bootstrap.servers` and the content of the
            client.properties file. Merge it with what a lesson adds: `Producer({**lab.client, "linger.ms": 50})`.
        registry: What `SchemaRegistryClient` takes.
        stack: The servers' processes; None for a cluster that the environment names.
        learner: Who shares the cluster with others; None outside of a class.
    """

    client: dict[str, str]
    registry: dict[str, object]
    stack: Stack | None = None
    learner: str | None = None

    def __repr__(self) -> str:  # the addresses and no more: client and registry may hold passwords
        who = f", learner {self.learner}" if self.learner else ""
        return f"Lab({self.client['bootstrap.servers']}, {self.registry['url']}{who})"

    @cached_property
    def _admin(self) -> AdminClient:
        return AdminClient({**self.client, "log_level": 0})  # a broker that a lesson kills is no news on the screen

    def _cluster(self) -> AdminClient:
        """Return the client for questions that go to the controller, once it has heard which broker that is now."""

        def known() -> bool:
            with suppress(KafkaException):
                return self._admin.list_topics(timeout=_ASK_SECONDS).controller_id >= 0
            return False

        wait_until(known, f"a controller among the brokers at {self.client['bootstrap.servers']}", ANSWER_SECONDS)
        return self._admin

    def name(self, name: str) -> str:
        """Return what a topic, a group or a subject is called here: as it is, or `LEARNER.name` in a class."""
        return f"{self.learner}.{name}" if self.learner else name

    def topic(self, name: str, partitions: int = 3, **config: str) -> None:
        """Make a topic unless it exists, with the replication that the cluster itself sets (KIP-464).

        Args:
            name: The topic.
            partitions: How many.
            config: Topic configuration, with `_` for `.`, as in `compression_type="lz4"`.

        Raises:
            LabError: The cluster refuses, or the topic is that of another learner of the same name.
        """
        there = self._topic_id(name)
        if not there:
            self._create(_new(name, partitions, config))
        elif self._is_own(name):
            self._made_here(name, there)

    def fresh_topic(self, name: str, partitions: int = 1, **config: str) -> None:
        """Make a topic that is empty, in place of the one of that name from an earlier run.

        Args:
            name: The topic; a learner's begin with their name, see `name`.
            partitions: How many.
            config: See `topic`.

        Raises:
            LabError: As `drop_topic`.
        """
        self.drop_topic(name)
        self._create(_new(name, partitions, config))

    def drop_topic(self, name: str) -> None:
        """Delete the topic of an earlier run, if there is one.

        Raises:
            LabError: The topic is another learner's, or was not made by the lab on a cluster of somebody else's: it is
                not deleted.
        """
        if self.learner and not self._is_own(name):
            raise LabError(
                f"learner {self.learner!r} deletes only topics of their own: use lab.name, which makes "
                f"{self.name(name)!r} of {name!r}"
            )
        old = self._topic_id(name)
        if old is None:
            return
        if not self._made_here(name, old) and self.stack is None:
            raise LabError(f"topic {name!r} exists and was not made by this lab: nothing was deleted, use another name")
        try:
            self._cluster().delete_topics([name], request_timeout=ANSWER_SECONDS)[name].result()
        except KafkaException as error:
            raise LabError(f"topic {name!r} was not deleted: {error.args[0].str()}") from None
        wait_until(lambda: not self._topic_id(name), f"the deletion of topic {name!r}")

    def rest(self) -> httpx2.Client:
        """Return a client for the registry's REST routes: it has the address, the credentials and the authority."""
        return rest(self.registry, timeout=ANSWER_SECONDS, trust_env=self.stack is None)

    def learners(self) -> set[str]:
        """Return who has made topics on this cluster under a learner's name."""
        places = [TopicPartition(name, 0) for name in self._admin.list_topics(timeout=ANSWER_SECONDS).topics]
        notes = self._notes(lambda group: group.committed(places, _REQUEST_SECONDS)) if places else []
        makers = [(note.metadata or "").split()[1:2] for note in notes]
        return {learner for maker in makers for learner in maker}

    def describe(self, name: str) -> TopicDescription | None:
        """Return what the brokers know of a topic, None if there is none of that name.

        Raises:
            LabError: The brokers do not tell.
        """
        try:
            topics = TopicCollection([name])
            return self._cluster().describe_topics(topics, request_timeout=ANSWER_SECONDS)[name].result()
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            raise LabError(f"topic {name!r} cannot be described: {error.args[0].str()}") from None

    def status(self) -> "pd.DataFrame":
        """Return a table of the servers: name, address and, where they run on this machine, process and memory."""
        import pandas as pd  # noqa: PLC0415 - half a second that only tables need

        if self.stack:
            rows = pd.DataFrame(self.stack.status()["processes"]).set_index("name")
            rows.columns = ["process", "port", "memory (MB)"]
            return rows
        self.check()
        brokers = self._admin.list_topics(timeout=ANSWER_SECONDS).brokers.values()
        rows = [(f"broker-{broker.id}", f"{broker.host}:{broker.port}") for broker in brokers]
        rows = [*sorted(rows), ("registry", self.registry["url"])]
        return pd.DataFrame(rows, columns=["name", "address"]).set_index("name")

    def check(self) -> None:
        """Ask the brokers and the registry something.

        Raises:
            LabError: One of them does not answer, or a property is none of the clients'; the message names the
                variable to look at.
        """
        errors: list[KafkaError] = []
        try:
            admin = AdminClient({**self.client, "log_level": 0, "error_cb": errors.append})
            registry = SchemaRegistryClient({"timeout": ANSWER_SECONDS, **self.registry, "max.retries": 0})
        except (KafkaException, ValueError, TypeError, OSError) as error:
            reason = error.args[0].str() if isinstance(error, KafkaException) else error
            raise LabError(
                f"a client does not take its properties ({reason}): check the files that KAFKA_CLIENT_PROPERTIES and "
                "KAFKA_SCHEMA_REGISTRY_PROPERTIES name"
            ) from None

        def answered() -> bool:
            try:
                return bool(admin.list_topics(timeout=_ASK_SECONDS).brokers)
            except KafkaException:
                admin.poll(0)  # calls error_cb with what went wrong
                return False

        try:
            wait_until(answered, "the brokers", ANSWER_SECONDS)
        except LabError:
            reason = errors[-1].str() if errors else f"waited {ANSWER_SECONDS} s"
            mend = "check KAFKA_BROKER_URL, or unset it for the embedded stack"
            raise LabError(
                f"the brokers at {self.client['bootstrap.servers']} do not answer ({reason}): "
                f"{'`kafkalab status` tells what runs' if self.stack else mend}"
            ) from None
        try:
            with registry:
                registry.get_subjects()
        except (SchemaRegistryError, httpx2.HTTPError, ValueError) as error:  # the last: an answer that is no JSON
            mend = "check KAFKA_SCHEMA_REGISTRY_URL, or unset it for the embedded stack"
            if self.stack:
                mend = "`kafkalab status` tells what runs; behind a proxy set NO_PROXY=127.0.0.1,localhost"
            raise LabError(
                f"the schema registry at {self.registry['url']} does not answer as one ({error}): {mend}"
            ) from None

    def _create(self, topic: NewTopic) -> None:
        def created() -> bool:
            try:
                self._cluster().create_topics([topic], request_timeout=ANSWER_SECONDS)[topic.topic].result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise LabError(f"topic {topic.topic!r} was not created: {error.args[0].str()}") from None
                return self._topic_id(topic.topic) is not None  # made by another program, or its deletion is not over
            return True

        wait_until(created, f"the creation of topic {topic.topic!r}")
        wait_until(lambda: self._has_leaders(topic.topic), f"leaders of the partitions of topic {topic.topic!r}")
        self._mark(topic.topic)

    def _has_leaders(self, name: str) -> bool:
        try:
            topic = self._admin.list_topics(name, timeout=_ASK_SECONDS).topics[name]
        except KafkaException:
            return False
        return topic.error is None and all(partition.leader >= 0 for partition in topic.partitions.values())

    def _topic_id(self, name: str) -> str | None:
        found = self.describe(name)
        return str(found.topic_id) if found else None

    def _is_own(self, name: str) -> bool:
        """Return whether a name has the prefix of a learner of this lab."""
        return self.learner is not None and name.startswith(self.name(""))

    def _made_here(self, name: str, topic_id: str) -> bool:
        """Return whether the lab made this topic.

        Raises:
            LabError: It did so for another learner, or for one of the same name at another seat.
        """
        [note] = self._notes(lambda group: group.committed([TopicPartition(name, 0)], _REQUEST_SECONDS))
        noted_id, _, maker = (note.metadata or "").partition(" ")
        if noted_id == topic_id and maker and maker != self._maker:
            learner = maker.split()[0]
            who = f"learner {learner!r}" if learner != self.learner else f"another learner of the name {learner!r}"
            raise LabError(
                f"topic {name!r} is that of {who}: it was left as it is, set KAFKALAB_LEARNER to a name that nobody "
                "else has"
            )
        return noted_id == topic_id

    @property
    def _maker(self) -> str:
        """The learner and the seat, which tells two learners of the same name apart."""
        return f"{self.learner} {seat()}" if self.learner else ""

    def _mark(self, name: str) -> None:
        """Keep who made a topic where the cluster itself has room for a note: the metadata of a committed offset."""
        maker = f" {self._maker}" if self._is_own(name) else ""
        note = TopicPartition(name, 0, 0, metadata=f"{self._topic_id(name)}{maker}")
        self._notes(lambda group: group.commit(offsets=[note], asynchronous=False))

    def _notes(self, call: Callable[[Consumer], list[TopicPartition]]) -> list[TopicPartition]:
        """Call until the group's coordinator answers, which a cluster's first group has to wait for.

        The admin client could ask too, but it may crash while a coordinator moves (librdkafka issues 4605, 5040).
        """
        answers = []

        def answered() -> bool:
            try:
                answers.append(call(consumer))
            except KafkaException as error:
                if not error.args[0].retriable() and error.args[0].code() not in _COORDINATOR_COMES:
                    raise LabError(
                        f"group {MADE_HERE!r}, where the lab notes what it made, cannot be used: {error.args[0].str()}"
                    ) from None
            return bool(answers)

        with Consumer({**self.client, "group.id": MADE_HERE, "log_level": 0}) as consumer:
            wait_until(answered, f"the coordinator of group {MADE_HERE!r}")
        return answers[0]


def _new(name: str, partitions: int, config: dict[str, str]) -> NewTopic:
    return NewTopic(name, partitions, config={key.replace("_", "."): value for key, value in config.items()})


def connect(brokers: int | None = None) -> Lab:
    """Return the cluster that the environment names, else the shared embedded stack, started if it does not run.

    Args:
        brokers: The number of brokers of the embedded stack, 1 to 5; None takes what is there, or 1.

    Raises:
        LabError: A variable is wrong, the cluster does not answer, or the stack cannot be started.
    """
    lab = described(ClusterSettings.read(), brokers)
    if lab.stack:
        lab.stack.up()
    lab.check()
    return lab


def described(settings: ClusterSettings, brokers: int | None = None) -> Lab:
    """Return what `connect` does, without a question to the cluster, which may not run.

    Raises:
        LabError: A variable is wrong, or the folder of the embedded stack holds another one.
    """
    if settings.broker_url is None and settings.schema_registry_url is None:
        stack = Stack.shared(brokers)
        return _lab(stack.client, stack.registry_client, settings, stack)
    if settings.broker_url is None or settings.schema_registry_url is None:
        missing = "KAFKA_BROKER_URL" if settings.broker_url is None else "KAFKA_SCHEMA_REGISTRY_URL"
        raise LabError(f"{missing} is not set, but its twin is: set both for a cluster, none for the embedded stack")
    return _lab({"bootstrap.servers": settings.broker_url}, {"url": settings.schema_registry_url}, settings)


def own_stack(brokers: int = 1, *, secure: bool = False) -> Lab:
    """Start a stack that only this Python uses and that ends with it, for lessons that stop or kill servers.

    Args:
        brokers: How many brokers, 1 to 5.
        secure: With TLS, users and permissions.

    Raises:
        LabError: The stack cannot be started.
    """
    stack = Stack.own(brokers, secure=secure)
    return Lab(stack.client, {"timeout": ANSWER_SECONDS, **stack.registry_client}, stack)


def _lab(
    client: dict[str, str], registry: dict[str, object], settings: ClusterSettings, stack: Stack | None = None
) -> Lab:
    """Put what the environment adds beside the addresses; the registry's client wants numbers as numbers."""
    more, registry_more = {}, {"timeout": ANSWER_SECONDS}
    for key, value in settings.properties().items():
        if key.startswith(REGISTRY_PREFIX):
            name = key.removeprefix(REGISTRY_PREFIX)
            registry_more[name] = int(value) if name.startswith(_NUMBERS) and value.isdecimal() else value
        else:
            more[key] = value
    return Lab({**more, **client}, {**registry_more, **registry}, stack, settings.learner)
