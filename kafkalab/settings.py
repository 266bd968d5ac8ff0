"""Which cluster and which folders: everything that the environment says, checked once."""

from pathlib import Path
from secrets import token_hex
from typing import Annotated, Self

import javaproperties
from filelock import FileLock
from platformdirs import user_cache_path, user_data_path, user_state_path
from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from kafkalab.errors import LabError


def _shipped(name: str) -> Path:
    """Return a folder of the course: in an installed package it lies inside, in a checkout beside it."""
    inside = Path(__file__).with_name(name)
    return inside if inside.exists() else Path(__file__).parents[1] / name


SCHEMAS = _shipped("schemas")
NOTEBOOKS = _shipped("notebooks")

_LOCK_SECONDS = 10
REGISTRY_PREFIX = "schema.registry."  # of what client.properties says to the registry's client

_HOSTS = r"^[\w.-]+:\d{1,5}(,[\w.-]+:\d{1,5})*$"
_URL = r"^https?://[^\s,@]+$"
_NAME = r"^[\w.-]+$"
_LEARNER = r"^[A-Za-z0-9][A-Za-z0-9-]{0,39}$"  # what a topic may be called, without the dot that ends the prefix


def _folder(path: Path) -> Path:
    if "," in str(path):
        raise ValueError("the servers take a comma for the end of a folder's name")
    return path.expanduser().absolute()  # servers run elsewhere


Folder = Annotated[Path, AfterValidator(_folder)]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Checked(BaseSettings):
    """Settings whose errors name the variable and what it should look like."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True)

    @classmethod
    def read(cls) -> Self:
        """Read the environment.

        Raises:
            LabError: A variable has a value that cannot be meant; each one is named with an example.
        """
        try:
            return cls()
        except ValidationError as error:
            wrong = []
            for detail in error.errors():
                name = detail["loc"][0]
                field = next(field for field in cls.model_fields.values() if field.alias == name)
                given = "…" if "@" in str(detail["input"]) else repr(detail["input"])  # it may hold a password
                wrong.append(f"{name}={given} should look like {field.examples[0]!r} ({field.description})")
            raise LabError("; ".join(wrong)) from None


class ClusterSettings(_Checked):
    """The cluster that the environment names, and what the origin's programs do with it."""

    broker_url: str | None = Field(
        None, alias="KAFKA_BROKER_URL", pattern=_HOSTS, examples=["localhost:9092"],
        description="host:port of the brokers, with commas between them",
    )  # fmt: skip
    schema_registry_url: str | None = Field(
        None, alias="KAFKA_SCHEMA_REGISTRY_URL", pattern=_URL, examples=["http://localhost:8081"],
        description="the base address of the schema registry, without a password: that belongs into "
        "KAFKA_SCHEMA_REGISTRY_PROPERTIES",
    )  # fmt: skip
    client_properties: Path | None = Field(
        None, alias="KAFKA_CLIENT_PROPERTIES", examples=["client.properties"],
        description="a file of lines key=value with librdkafka's names",
    )  # fmt: skip
    schema_registry_properties: Path | None = Field(
        None, alias="KAFKA_SCHEMA_REGISTRY_PROPERTIES", examples=["schema-registry.properties"],
        description="a file of lines key=value with the registry client's names",
    )  # fmt: skip
    consumer_timeout_ms: int = Field(
        10_000, alias="KAFKA_CONSUMER_TIMEOUT_MS", ge=1, examples=[120_000],
        description="milliseconds without a message after which a consumer ends",
    )  # fmt: skip
    in_topic: str | None = Field(
        None, alias="IN_TOPIC", pattern=r"^[\w.-]+(,[\w.-]+)*$", examples=["count,multiples"],
        description="topics to subscribe to, with commas between them; unset: count,multiples",
    )  # fmt: skip
    in_group: str | None = Field(
        None, alias="IN_GROUP", pattern=_NAME, examples=["count"],
        description="the consumer group; unset: count",
    )  # fmt: skip
    out_topic: str | None = Field(
        None, alias="OUT_TOPIC", pattern=_NAME, examples=["count"],
        description="the topic to produce to",
    )  # fmt: skip
    out_schema: Path | None = Field(
        None, alias="OUT_SCHEMA", examples=["schemas/count.avsc"],
        description="the Avro schema file of OUT_TOPIC; unset: schemas/TOPIC.avsc",
    )  # fmt: skip
    learner: str | None = Field(
        None, alias="KAFKALAB_LEARNER", pattern=_LEARNER, examples=["ann-2"],
        description="who shares the cluster with others: up to 40 letters A to Z, digits and hyphens",
    )  # fmt: skip

    def properties(self) -> dict[str, str]:
        """Return the content of both properties files, the registry's with the prefix `schema.registry.`.

        Raises:
            LabError: A file cannot be read, or a line of it has a malformed escape.
        """
        registry = _content("KAFKA_SCHEMA_REGISTRY_PROPERTIES", self.schema_registry_properties)
        own = {f"{REGISTRY_PREFIX}{key.removeprefix(REGISTRY_PREFIX)}": value for key, value in registry.items()}
        return {**_content("KAFKA_CLIENT_PROPERTIES", self.client_properties), **own}


def _content(variable: str, path: Path | None) -> dict[str, str]:
    """Return the content of a properties file, empty where none is named."""
    if path is None:
        return {}
    try:
        with path.open(encoding="utf-8") as file:
            return javaproperties.load(file)
    except (OSError, ValueError) as error:
        raise LabError(
            f"{variable}={str(path)!r} cannot be read ({error}): "
            "name a file of lines key=value, such as security.protocol=SASL_SSL"
        ) from None


class StackSettings(_Checked):
    """Where the embedded stack keeps its files and which ports it takes; all on loopback."""

    home: Folder = Field(
        default_factory=lambda: user_state_path("kafkalab", appauthor=False), alias="KAFKALAB_HOME",
        examples=["kafkalab-home"],
        description="the folder for data, logs and process records, no comma in it",
    )  # fmt: skip
    cache: Folder = Field(
        default_factory=lambda: user_cache_path("kafkalab", appauthor=False), alias="KAFKALAB_CACHE",
        examples=["kafkalab-cache"],
        description="the folder for downloads, shared by all stacks, no comma in it",
    )  # fmt: skip
    zookeeper_port: Port = Field(2181, alias="KAFKALAB_ZOOKEEPER_PORT", examples=[2181], description="ZooKeeper's port")
    broker_port: Port = Field(
        9092, alias="KAFKALAB_BROKER_PORT", examples=[9092], description="the first broker's port; the others follow it"
    )
    registry_port: Port = Field(
        8081, alias="KAFKALAB_REGISTRY_PORT", examples=[8081], description="the schema registry's port"
    )


def seat() -> str:
    """Return the random id of this account, made once: it tells two learners of the same name apart.

    Raises:
        LabError: It cannot be kept.
    """
    path = user_data_path("kafkalab", appauthor=False) / "seat"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name("seat.lock"), timeout=_LOCK_SECONDS):
            if not path.exists() or not path.read_text(encoding="ascii"):
                path.write_text(token_hex(8), encoding="ascii")
            return path.read_text(encoding="ascii")
    except OSError as error:  # a time-out of the lock is one too
        raise LabError(f"cannot write to {path.parent} ({error}), where this account's id belongs") from None
