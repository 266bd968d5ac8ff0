"""The script of a round: which faults, in which order, for how long. The seed alone decides."""

import random
from dataclasses import dataclass

CLIENTS = ("producer", "worker-0", "worker-1", "consumer")
KILLS = 24  # of clients, in a round
ZOMBIE_SECONDS = 8  # longer than a group waits for a member


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        after: Seconds since the one before it was over.
        kind: `kill`, `pause`, `cut`, `restart`.
        target: A client or a broker.
        lasts: Seconds until it is healed.
    """

    after: float
    kind: str
    target: str
    lasts: float = 0

    def __str__(self):
        return f"after {self.after:.2f} s {self.kind} {self.target}" + f" for {self.lasts:.2f} s" * bool(self.lasts)


def write(seed, kills=KILLS):
    """Return the faults of the clients, and those of the servers that happen beside them."""
    chance = random.Random(seed)
    broker, worker = f"broker-{chance.randrange(3)}", f"worker-{chance.randrange(2)}"
    apart = [
        Fault(1, "kill", broker, chance.uniform(0, 2)),
        Fault(1, "cut", broker, chance.uniform(1, 6)),  # a leader is given up after three seconds
        Fault(1, "pause", broker, chance.uniform(1, 6)),
        Fault(1, "restart", broker),
        Fault(1, "pause", worker, ZOMBIE_SECONDS),
    ][seed % 5]  # in turn: five rounds have them all
    killed = [name for name in CLIENTS if name != apart.target]
    weights = [3 if name.startswith("worker") else 2 for name in killed]
    clients = [Fault(chance.uniform(0.05, 0.5), "kill", name) for name in chance.choices(killed, weights, k=kills)]
    return clients, [apart]
