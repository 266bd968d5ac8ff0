"""What a stack is made with, kept in its folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

from kafkalab.embedded.files import write_private
from kafkalab.errors import LabError

MOST_BROKERS = 5


@dataclass(frozen=True)
class Options:
    """What a stack is made with.

    Attributes:
        mode: `zookeeper` or `kraft`.
        ports: Each server's port, by its name, in the order in which the servers start.
        quorum: The ports of the controllers' listeners, by the names of the servers that are controllers.
        secure: With TLS, users and permissions.
    """

    mode: str
    ports: Mapping[str, int]
    quorum: Mapping[str, int] = field(default_factory=dict)
    secure: bool = False

    @classmethod
    def with_zookeeper(
        cls, zookeeper: int, brokers: Sequence[int], quorum: Sequence[int] = (), *, secure: bool = False
    ) -> Self:
        """Return the options of a stack of ZooKeeper and brokers on these ports.

        Args:
            zookeeper: ZooKeeper's port.
            brokers: The brokers' ports.
            quorum: The ports of controllers that the cluster can move to; they do not start with the stack.
            secure: With TLS, users and permissions.
        """
        controllers = _numbered("controller", quorum)
        return cls(
            "zookeeper", {"zookeeper": zookeeper, **controllers, **_numbered("broker", brokers)}, controllers, secure
        )

    @classmethod
    def with_kraft(
        cls, brokers: Sequence[int], quorum: Sequence[int], *, apart: bool = False, secure: bool = False
    ) -> Self:
        """Return the options of a stack without ZooKeeper.

        Args:
            brokers: The brokers' ports for clients.
            quorum: The ports of the controllers' listeners.
            apart: Whether controllers are servers of their own; else each broker is a controller too.
            secure: With TLS, users and permissions.
        """
        controllers = _numbered("controller", quorum) if apart else {}
        ports = {**controllers, **_numbered("broker", brokers)}
        return cls("kraft", ports, controllers or _numbered("broker", quorum), secure)

    def beside(self, ports: Mapping[str, int]) -> Self:
        """Return these options with further servers, which start after the others."""
        return replace(self, ports={**self.ports, **ports})

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Return the options of the stack in a folder, None if there is none.

        Raises:
            LabError: A file of that name is something else.
        """
        try:
            options = json.loads((folder / "stack.json").read_text(encoding="utf-8"))
            return cls(options["mode"], _ports(options["ports"]), _ports(options["quorum"]), options["secure"])
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise LabError(
                f"{folder} cannot be read ({error.strerror}): take the account that owns it, or name another folder in "
                "KAFKALAB_HOME"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise LabError(
                f"{folder / 'stack.json'} is not a stack's: remove it, or name another folder in KAFKALAB_HOME"
            ) from None

    def write(self, folder: Path) -> None:
        """Keep the options with the stack."""
        write_private(folder / "stack.json", json.dumps(asdict(self)))

    @property
    def broker_ports(self) -> list[int]:
        """The ports of the brokers for clients."""
        return [port for name, port in self.ports.items() if name.startswith("broker-")]

    @property
    def controllers(self) -> int:
        """The number of controllers that are servers of their own."""
        return sum(name.startswith("controller-") for name in self.ports)

    def __str__(self) -> str:
        brokers, ports = len(self.broker_ports), ", ".join(map(str, self.ports.values()))
        how = "with ZooKeeper" if self.mode == "zookeeper" else "without ZooKeeper"
        return f"{brokers} broker{'s' * (brokers > 1)} {how} on ports {ports}{', secured' * self.secure}"


def _numbered(kind: str, ports: Sequence[int]) -> dict[str, int]:
    return {f"{kind}-{number}": port for number, port in enumerate(ports)}


def _ports(ports: Mapping[str, object]) -> dict[str, int]:
    return {str(name): int(str(port)) for name, port in ports.items()}
