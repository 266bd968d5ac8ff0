"""What the rounds add up to, and all that is needed to see one again that does not balance."""

import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field

import confluent_kafka

from kafkalab import LabError
from tools.soak import script
from tools.soak.rounds import Round

KINDS = ("lost", "doubled", "out of order", "ahead")


@dataclass
class Tally:
    """What the rounds of a mode add up to."""

    rounds: int = 0
    acknowledged: int = 0
    seconds: float = 0
    counted: Counter = field(default_factory=Counter)
    found: Counter = field(default_factory=Counter)

    @property
    def kills(self):
        return sum(number for what, number in self.counted.items() if what.startswith("kill "))

    def row(self):
        faults = {what: self.counted[what] for what in sorted(self.counted)}
        found = {kind: self.found[kind] for kind in KINDS}
        row = {"rounds": self.rounds, "kills": self.kills, **faults, "acknowledged": self.acknowledged, **found}
        return {**row, "minutes": round(self.seconds / 60, 1)}


def play(cluster, seed, folder, tally, broken=None):
    """Play one round, and return None if its books balance, else what is needed to see it again."""
    mode, (clients, servers) = cluster.mode, script.write(seed)
    if broken:  # nothing but what the promise stands against
        clients, servers = [], []
    played = Round(cluster, folder / f"{mode}-{seed}", f"soak-{seed}", (clients, servers), broken)
    start, wrong, findings = time.monotonic(), None, {}
    try:
        books = played.run()
        tally.acknowledged += len(books.acknowledged)
        if not books.balance():
            findings = books.findings
            wrong = ", ".join(f"{len(findings[kind])} {kind}" for kind in KINDS if findings[kind])
    except LabError as error:
        wrong = str(error)
    tally.rounds += 1
    tally.seconds += time.monotonic() - start
    tally.counted += played.counted
    tally.found += Counter({kind: len(lines) for kind, lines in findings.items()})
    if wrong:
        played.keep(cluster.lab.stack.folder / "logs")
        report = {
            "wrong": wrong, "seed": seed, "mode": mode, "broken": broken, "versions": versions(),
            "findings": findings, "clients": [asdict(f) for f in clients], "servers": [asdict(f) for f in servers],
        }  # fmt: skip
        (played.folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        again = f"python -m tools.soak --rounds 1 --mode {mode} --seed {seed}" + f" --break {broken}" * bool(broken)
        few = [line for lines in findings.values() for line in lines[:3]]
        faults = [f"  {fault}" for fault in (*clients, *servers)]
        lines = [f"{wrong} (seed {seed}, {mode}, {versions()})", *few, "script:", *faults]
        return "\n".join([*lines, f"logs and books: {played.folder}", f"again: {again}"])
    played.forget()
    return None


def versions():
    client, librdkafka = confluent_kafka.version(), confluent_kafka.libversion()[0]
    return f"confluent-kafka {client}, librdkafka {librdkafka}, Python {sys.version.split()[0]}"
