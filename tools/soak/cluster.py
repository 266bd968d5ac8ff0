"""Three brokers, each behind relays that can be cut."""

import platform
import tomllib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import permutations

import confluent_kafka

from kafkalab import Lab
from kafkalab.embedded import HOST, artifacts
from kafkalab.embedded.relay import Relay
from kafkalab.embedded.stack import Stack


@dataclass(frozen=True)
class Cluster:
    """A stack that can be disturbed.

    Attributes:
        lab: The brokers; their addresses are those of relays.
        relays: By the broker's name, what is between it and all that dial it, and between it and the controllers.
    """

    lab: Lab
    relays: dict[str, list[Relay]]

    @property
    def mode(self):
        return self.lab.stack.options.mode

    @property
    def versions(self):
        """The versions of Kafka, client and Python."""
        wanted = tomllib.loads(artifacts.LOCK.read_text(encoding="utf-8"))["request"]
        kafka = wanted[self.lab.stack._servers["broker-0"].files][0].rpartition(":")[2]
        client, librdkafka = confluent_kafka.version(), confluent_kafka.libversion()[0]
        return f"Kafka {kafka}, confluent-kafka {client}, librdkafka {librdkafka}, Python {platform.python_version()}"

    def cut(self, broker):
        for relay in self.relays[broker]:
            relay.cut()

    def heal(self, broker):
        for relay in self.relays[broker]:
            relay.heal()


@contextmanager
def started(mode):
    """Start three brokers, and end them with the block."""
    stack = Stack.own(3, mode=mode)
    with ExitStack() as made:
        made.callback(stack.down, wipe=True)

        def relay(port):
            return made.enter_context(Relay(port))

        servers = {name: server for name, server in stack._servers.items() if name.startswith("broker-")}
        fronts = {name: relay(server.port) for name, server in servers.items()}
        relays = {name: [front] for name, front in fronts.items()}
        if mode == "zookeeper":
            between = {name: relay(stack.options.ports["zookeeper"]) for name in servers}
            own = {name: {"zookeeper.connect": f"{HOST}:{between[name].port}"} for name in servers}
            for name in servers:
                relays[name].append(between[name])
        else:  # each sees the others' controllers through relays of its own; cut are both ways
            quorum = stack.options.quorum
            between = {(one, other): relay(quorum[other]) for one, other in permutations(servers, 2)}
            own = {name: {"controller.quorum.voters": _voters(name, quorum, between)} for name in servers}
            for name in servers:
                relays[name] += [between[pair] for pair in between if name in pair]
        for name, server in servers.items():
            address = f"PLAINTEXT://{HOST}:{fronts[name].port}"
            server.given = {**server.properties(), "advertised.listeners": address, **own[name]}
        stack.up()
        addresses = ",".join(f"{HOST}:{front.port}" for front in fronts.values())
        yield Cluster(Lab({"bootstrap.servers": addresses}, {"url": stack.schema_registry_url}, stack), relays)


def _voters(name, quorum, between):
    ports = {other: between[name, other].port if other != name else port for other, port in quorum.items()}
    return ",".join(f"{number}@{HOST}:{port}" for number, port in enumerate(ports.values()))
