"""A Lab: the addresses, the client configuration and the handles of one running cluster."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

import httpx2
from confluent_kafka.admin import TopicDescription

from kafkalab.cluster import health, proxies
from kafkalab.cluster.registry import registry_client, rest
from kafkalab.cluster.topics import Topics
from kafkalab.embedded.stack import Stack
from kafkalab.errors import LabError
from kafkalab.settings import ClusterSettings
from kafkalab.waiting import ANSWER_SECONDS

if TYPE_CHECKING:
    import pandas as pd


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
    def _topics(self) -> Topics:
        return Topics(self.client, self.learner, private=self.stack is not None)

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
        self._topics.ensure(name, partitions, config)

    def fresh_topic(self, name: str, partitions: int = 1, **config: str) -> None:
        """Make a topic that is empty, in place of the one of that name from an earlier run.

        Args:
            name: The topic; a learner's begin with their name, see `name`.
            partitions: How many.
            config: See `topic`.

        Raises:
            LabError: As `drop_topic`.
        """
        self._topics.replace(name, partitions, config)

    def drop_topic(self, name: str) -> None:
        """Delete the topic of an earlier run, if there is one.

        Raises:
            LabError: The topic is another learner's, or was not made by the lab on a cluster of somebody else's: it is
                not deleted.
        """
        self._topics.drop(name)

    def describe(self, name: str) -> TopicDescription | None:
        """Return what the brokers know of a topic, None if there is none of that name.

        Raises:
            LabError: The brokers do not tell.
        """
        return self._topics.describe(name)

    def learners(self) -> set[str]:
        """Return who has made topics on this cluster under a learner's name."""
        return self._topics.learners()

    def rest(self) -> httpx2.Client:
        """Return a client for the registry's REST routes: it has the address, the credentials and the authority."""
        timeout = self.registry.get("timeout", ANSWER_SECONDS)
        return rest(self.registry, timeout=timeout, trust_env=self.stack is None)

    def status(self) -> "pd.DataFrame":
        """Return a table of the servers: name, address and, where they run on this machine, process and memory."""
        import pandas as pd  # noqa: PLC0415 - half a second that only tables need

        if self.stack:
            rows = pd.DataFrame(self.stack.processes()).set_index("name")
            rows.columns = ["process", "port", "memory (MB)"]
            return rows
        self.check()
        brokers = self._topics.admin.list_topics(timeout=ANSWER_SECONDS).brokers.values()
        addresses = [(f"broker-{broker.id}", f"{broker.host}:{broker.port}") for broker in brokers]
        addresses = [*sorted(addresses), ("registry", str(self.registry["url"]))]
        return pd.DataFrame(addresses, columns=["name", "address"]).set_index("name")

    def check(self) -> None:
        """Ask the brokers, and the registry if there is one, something.

        Raises:
            LabError: One of them does not answer, or a property is none of the clients'; the message names the
                variable to look at.
        """
        health.check_brokers(self.client, embedded=self.stack is not None)
        if self.registry["url"]:
            health.check_registry(self.registry, embedded=self.stack is not None)


class OwnLab(Lab):
    """A cluster that only this Python uses; as a context manager it ends with the block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.stack:
            self.stack.down(wipe=True)


def connect(brokers: int | None = None) -> Lab:
    """Return the cluster that the environment names, else the shared embedded stack, started if it does not run.

    Args:
        brokers: The number of brokers of the embedded stack, 1 to 5; None takes what is there, or 1.

    Raises:
        LabError: A variable is wrong, the cluster does not answer, or the stack cannot be started.
    """
    lab = configured(ClusterSettings.read(), brokers)
    if lab.stack:
        lab.stack.up()
        health.check_brokers(lab.client, embedded=True)
        with registry_client(lab.registry):  # looks at the properties; who asks a registry that starts waits for it
            pass
    else:
        lab.check()
    return lab


def configured(settings: ClusterSettings, brokers: int | None = None) -> Lab:
    """Return what `connect` does, without a question to the cluster, which may not run.

    Raises:
        LabError: A variable is wrong, or the folder of the embedded stack holds another one.
    """
    if settings.broker_url is None and settings.schema_registry_url is None:
        stack = Stack.shared(brokers)
        proxies.pass_by()
        return _lab(stack.client, stack.registry_client, settings, stack)
    if settings.broker_url is None or settings.schema_registry_url is None:
        missing = "KAFKA_BROKER_URL" if settings.broker_url is None else "KAFKA_SCHEMA_REGISTRY_URL"
        key = "bootstrap.servers" if settings.broker_url is None else "schema.registry.url"
        raise LabError(
            f"{missing} is not set, but its twin is: set both for a cluster, none for the embedded stack; in the file "
            f"that KAFKA_CLIENT_PROPERTIES names it is {key}=…"
        )
    return _lab({"bootstrap.servers": settings.broker_url}, {"url": settings.schema_registry_url}, settings)


def own_stack(
    brokers: int = 1,
    *,
    mode: str | None = None,
    controllers: int = 0,
    secure: bool = False,
    started: int | None = None,
    registry: bool = True,
    beside: Collection[str] = (),
) -> OwnLab:
    """Start a stack that only this Python uses and that ends with it, for lessons that stop or kill servers.

    In a program it is a context manager, `with own_stack() as lab:`; in a notebook `lab.stack.down(wipe=True)` ends it.

    Args:
        brokers: How many brokers, 1 to 5.
        mode: `zookeeper` or `kraft`; None takes KAFKALAB_MODE, or `zookeeper`.
        controllers: How many of their own, without ZooKeeper; with none each broker is a controller too. With
            ZooKeeper, how many there are to move to: they are started by their names.
        secure: With TLS, users and permissions.
        started: How many of the brokers are started now; the others wait for `stack.start`. None means all.
        registry: With a schema registry; a lesson that uses none starts sooner without.
        beside: The names of further servers, in the order in which they start.

    Raises:
        LabError: The stack cannot be started.
    """
    proxies.pass_by()
    stack = Stack.own(brokers, mode=mode, controllers=controllers, secure=secure, registry=registry, beside=beside)
    try:
        stack.up(started)
    except BaseException:
        stack.down(wipe=True)
        raise
    return OwnLab(stack.client, stack.registry_client, stack)


def _lab(
    client: dict[str, str], registry: Mapping[str, object], settings: ClusterSettings, stack: Stack | None = None
) -> Lab:
    """Put what the environment adds beside the addresses.

    A file has properties that only consumers or only producers know. Each client passes over the others with a warning
    (librdkafka's CONFWARN), so only errors are logged then, unless the file has a `log_level` of its own.
    """
    quiet = {"log_level": "3"} if settings.client else {}
    timeout = settings.registry.get("timeout", registry.get("timeout", ANSWER_SECONDS))
    return Lab(
        {**quiet, **settings.client, **client},
        {**settings.registry, **registry, "timeout": timeout},
        stack,
        settings.learner,
    )
