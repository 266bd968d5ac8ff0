"""Connect and change data capture: the servers, of a stack or of the environment, and what connectors have written."""

from dataclasses import dataclass
from typing import Any, ClassVar, cast
from urllib.parse import unquote, urlsplit

import psycopg
from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from psycopg import sql

from kafkalab.cluster.connectors import ask
from kafkalab.cluster.lab import Lab, connect, own_stack
from kafkalab.cluster.messages import MAGIC, all_messages
from kafkalab.cluster.servers import Servers, delete_subjects
from kafkalab.cluster.topics import Topics
from kafkalab.embedded import HOST
from kafkalab.embedded.servers import postgres
from kafkalab.embedded.servers.connect import PASSWORD
from kafkalab.embedded.stack import Stack
from kafkalab.errors import LabError
from kafkalab.settings import ClusterSettings
from kafkalab.waiting import ANSWER_SECONDS, wait_until

_OFFSETS = "connect-offsets"  # the topic in which the worker keeps how far each source came
_SECONDS = 60  # that a server may take over one change
_SOURCE = "io.debezium.connector.postgresql.PostgresConnector"
_SINK = "io.debezium.connector.jdbc.JdbcSinkConnector"
# what the lesson makes on servers that stay
_CONNECTORS = {"flat": _SOURCE, "multiples": _SINK, "shop": _SOURCE}
_SLOTS = ("flat", "lesson")
_DATABASE = "shop"


@dataclass(frozen=True, repr=False)
class Pipeline(Servers):
    """A cluster with Kafka Connect and PostgreSQL.

    Attributes:
        url: The address of Connect's REST interface.
        login: What `psycopg.connect` takes to reach the database server: host, port, user and password.
        at_connect: The same as a connector takes it; its password is where the worker finds it.
    """

    topics: ClassVar = (
        "both", "multiples", "multiples.rejected", "orders", "shop.public.multiples", "shop.public.orders",
    )  # fmt: skip

    url: str
    login: dict[str, Any]
    at_connect: dict[str, Any]

    def left(self) -> list[str]:
        """Return what is there of the names that the lesson takes."""
        there = [f"connector {name}" for name in ask(self.url, "GET", "/connectors").json() if name in _CONNECTORS]
        with psycopg.connect(**self.login, dbname="postgres") as server:
            found = server.execute("SELECT slot_name FROM pg_replication_slots WHERE slot_name = ANY(%s)", [[*_SLOTS]])
            there += [f"slot {name}" for (name,) in found]
            found = server.execute("SELECT datname FROM pg_database WHERE datname = %s", [_DATABASE])
            there += [f"database {name}" for (name,) in found]
        return there + super().left()

    def forget(self) -> None:
        """Remove what the lesson has made: connectors with their offsets, slots, the database, topics and subjects.

        Raises:
            LabError: A server refuses, or does not answer in time.
        """
        for name in _CONNECTORS:
            self._forget_connector(name)
        with psycopg.connect(**self.login, dbname="postgres", autocommit=True) as server:
            ours = "FROM pg_replication_slots WHERE slot_name = ANY(%s)"
            read = f"SELECT count(*) {ours} AND active"
            wait_until(lambda: server.execute(read, [[*_SLOTS]]).fetchone() == (0,), "slots without readers", _SECONDS)
            server.execute(f"SELECT pg_drop_replication_slot(slot_name) {ours}", [[*_SLOTS]])
            server.execute(f"DROP DATABASE IF EXISTS {_DATABASE} WITH (FORCE)")
        super().forget()

    def _forget_connector(self, name: str) -> None:
        """Remove a connector and its offsets, which Connect keeps for the next one of that name (KIP-875)."""
        seen = self.at_connect
        config = {
            "connector.class": _CONNECTORS[name],
            "topic.prefix": name,
            "topics": name,
            "database.hostname": seen["host"],
            "database.port": seen["port"],
            "database.user": seen["user"],
            "database.password": seen["password"],
            "database.dbname": "postgres",
            "plugin.name": "pgoutput",
            "connection.url": f"jdbc:postgresql://{seen['host']}:{seen['port']}/postgres",
            "connection.username": seen["user"],
            "connection.password": seen["password"],
        }
        if ask(self.url, "GET", f"/connectors/{name}").status_code == 404:
            ask(self.url, "POST", "/connectors", {"name": name, "config": config, "initial_state": "STOPPED"})
        else:
            ask(self.url, "PUT", f"/connectors/{name}/stop")
        wait_until(
            lambda: ask(self.url, "DELETE", f"/connectors/{name}/offsets").status_code == 200,
            f"the offsets of connector {name} to be deleted",
            _SECONDS,
        )
        ask(self.url, "DELETE", f"/connectors/{name}")


def pipeline() -> Pipeline:
    """Return the servers that the environment names, else start a stack that ends with this Python.

    Raises:
        LabError: The stack cannot be started; or a server that the environment names does not answer, or has something
            of a name that the lesson takes.
    """
    settings = ClusterSettings.read()
    if settings.connect_url or settings.postgres_url:
        given = _given(settings)
        given.refuse_left()
        return given
    lab = own_stack(beside=("postgres", "connect"))
    stack = cast("Stack", lab.stack)
    login = database(stack)
    return Pipeline(lab, f"http://{HOST}:{stack.options.ports['connect']}", login, login | {"password": PASSWORD})


def forget() -> None:
    """Remove from the servers that the environment names what a run of the lesson has left there.

    Raises:
        LabError: None are named, or one of them refuses or does not answer.
    """
    _given(ClusterSettings.read()).forget()


def _given(settings: ClusterSettings) -> Pipeline:
    url, database_url = settings.connect_url, settings.postgres_url
    if not (url and database_url and settings.broker_url):
        raise LabError(
            "set KAFKALAB_CONNECT_URL, KAFKALAB_POSTGRES_URL and KAFKA_BROKER_URL for servers that run already, or "
            "neither of the first two for a stack of this notebook's own"
        )
    if settings.learner:
        raise LabError("this lesson has Connect and its database for itself: unset KAFKALAB_LEARNER")
    login = _login(database_url)
    try:
        psycopg.connect(**login, dbname="postgres", connect_timeout=ANSWER_SECONDS).close()
    except psycopg.OperationalError as error:
        raise LabError(
            f"the database at {login['host']}:{login['port']} does not let us in ({str(error).splitlines()[0]}): "
            "check KAFKALAB_POSTGRES_URL"
        ) from None
    return Pipeline(connect(), url.rstrip("/"), login, _login(settings.connect_postgres_url or database_url))


def _login(url: str) -> dict[str, Any]:
    """Return what `psycopg.connect` takes of an address that the settings have checked."""
    parts = urlsplit(url)
    told = {"user": unquote(parts.username or ""), "password": unquote(parts.password or "")}
    return {"host": parts.hostname, "port": parts.port, **told}


def database(stack: Stack) -> dict[str, Any]:
    """Return what `psycopg.connect` takes to reach the stack's PostgreSQL: host, port, user and password."""
    return postgres.client(stack.folder, stack.options.ports["postgres"])


def events(lab: Lab, topic: str) -> list[tuple[Any, Any]]:
    """Return key and value of each committed message of a topic, as far as it is now.

    Args:
        lab: The cluster.
        topic: The topic; one that does not exist has no messages.

    Returns:
        Avro as records, anything else as text, and None where there is none, as in a tombstone.

    Raises:
        LabError: The brokers do not answer in time.
    """
    if not lab.describe(topic):
        return []
    with SchemaRegistryClient(lab.registry) as registry:
        decode = AvroDeserializer(registry)

        def part(data: bytes | None, field: MessageField) -> Any:
            if data is None or data[:1] != MAGIC:
                return None if data is None else data.decode(errors="replace")
            return decode(data, SerializationContext(topic, field))

        return [
            (part(message.key(), MessageField.KEY), part(message.value(), MessageField.VALUE))
            for message in all_messages(lab.client, topic)
        ]


def start_over(stack: Stack, name: str) -> None:
    """Put an empty database in place of the old one, without any connector, and without what sources have written.

    The offsets of a source outlive the connector, and the next one of its name goes on from there. So they get
    tombstones. (The REST interface resets only those of a connector that is there, KIP-875, and Kafka 4.3.1 answers 500
    for one that never had a task.)

    Args:
        stack: A stack of one's own, with Connect and PostgreSQL.
        name: The database. Its tables, publications and replication slots go with it.

    Raises:
        LabError: One of the servers does not answer in time.
    """
    stack.start("connect")
    for connector in ask(stack, "GET", "/connectors").json():
        ask(stack, "DELETE", f"/connectors/{connector}")
    wait_until(lambda: not ask(stack, "GET", "/connectors?expand=status").json(), "the end of the connectors", _SECONDS)
    busy = "SELECT count(*) FROM pg_replication_slots WHERE active"
    with psycopg.connect(**database(stack), dbname="postgres", autocommit=True) as server:
        wait_until(lambda: server.execute(busy).fetchone() == (0,), "the end of the connectors' sessions", _SECONDS)
        identifier = sql.Identifier(name)
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))
        server.execute(sql.SQL("CREATE DATABASE {}").format(identifier))
    with Producer(stack.client) as producer:
        for key in {message.key() for message in all_messages(stack.client, _OFFSETS)}:
            producer.produce(_OFFSETS, None, key)
        if producer.flush(_SECONDS):
            raise LabError(f"timed out after {_SECONDS} s waiting for the broker to take the tombstones of {_OFFSETS}")
    with SchemaRegistryClient(stack.registry_client) as registry:
        subjects = registry.get_subjects()
        delete_subjects(registry, subjects)
    topics = Topics(stack.client, None, private=True)
    for topic in {subject.rpartition("-")[0] for subject in subjects}:
        topics.drop(topic)
