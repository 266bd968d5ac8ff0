"""Servers beside the brokers, for a lesson that kills them: those of a stack, or those that the environment names."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from confluent_kafka.schema_registry import SchemaRegistryClient

from kafkalab.cluster.lab import Lab
from kafkalab.cluster.topics import Topics
from kafkalab.errors import LabError


@dataclass(frozen=True, repr=False)
class Servers:
    """A cluster, and what is beside it.

    Attributes:
        topics: The topics that the lesson makes, which servers that stay would keep.
        lab: The cluster.
    """

    topics: ClassVar[tuple[str, ...]] = ()

    lab: Lab

    def kill(self, name: str) -> bool:
        """End a server at once, as a crash does, and return whether it was.

        One that the environment names runs on, and a line says so.
        """
        if self.lab.stack:
            self.lab.stack.kill(name)
        else:
            print(f"{name} is not a server of this notebook: it is not killed, and all goes on")
        return self.lab.stack is not None

    def start(self, name: str) -> None:
        """Start a server that does not run, and wait until it answers; those that the environment names run anyway."""
        if self.lab.stack:
            self.lab.stack.start(name)

    def end(self) -> None:
        """End the stack; of servers that the environment names, only what the lesson has made there is removed."""
        if self.lab.stack:
            self.lab.stack.down(wipe=True)
        else:
            self.forget()

    def left(self) -> list[str]:
        """Return what is there of the names that the lesson takes."""
        there = [f"topic {name}" for name in self.topics if self.lab.describe(name)]
        with SchemaRegistryClient(self.lab.registry) as registry:
            return there + [f"subject {name}" for name in self._subjects(registry)]

    def refuse_left(self) -> None:
        """Refuse servers that have something of a name that the lesson takes.

        Raises:
            LabError: There is such a thing; the message names it, and the lesson's function that removes it.
        """
        if left := self.left():
            raise LabError(
                f"there is already {', '.join(left)}: if an earlier run of this lesson has left that, and nobody else, "
                f"`{type(self).__module__}.forget()` removes it"
            )

    def forget(self) -> None:
        """Remove what the lesson has made.

        Raises:
            LabError: A server refuses, or does not answer in time.
        """
        topics = Topics(dict(self.lab.client), None, private=True)
        for name in self.topics:
            topics.drop(name)
        with SchemaRegistryClient(self.lab.registry) as registry:
            delete_subjects(registry, self._subjects(registry))

    def _subjects(self, registry: SchemaRegistryClient) -> list[str]:
        there = set(registry.get_subjects())
        return [f"{topic}-{part}" for topic in self.topics for part in ("key", "value") if f"{topic}-{part}" in there]


def delete_subjects(registry: SchemaRegistryClient, subjects: Iterable[str]) -> None:
    """Delete subjects for good, which takes two steps."""
    for subject in subjects:
        registry.delete_subject(subject)
        registry.delete_subject(subject, permanent=True)
