"""What the rounds add up to, and all that is needed to see one again that does not balance."""

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count

from confluent_kafka import KafkaException

from kafkalab import LabError
from tools.soak import script
from tools.soak.rounds import BREAKS, Round

NUMBERS = count()  # of the rounds of this process: names of which nothing is left on the brokers
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

    def line(self):
        found = ", ".join(f"{self.found[kind]} {kind}" for kind in KINDS)
        return f"{self.rounds} rounds, {self.kills} kills, {self.acknowledged} acknowledged, {found}"

    def row(self):
        faults = {what: self.counted[what] for what in sorted(self.counted)}
        found = {kind: self.found[kind] for kind in KINDS}
        row = {"rounds": self.rounds, "kills": self.kills, **faults, "acknowledged": self.acknowledged, **found}
        return {**row, "minutes": round(self.seconds / 60, 1)}


def play(cluster, seed, folder, tally, broken=None, kills=script.KILLS):
    """Play one round and add it to the tally.

    Args:
        cluster: Three brokers.
        seed: What the script is written from.
        folder: Where the round's own folder is kept if its books do not balance.
        tally: What the rounds of this mode add up to.
        broken: The promise that is broken on purpose: then there are no faults but the one that it stands against.
        kills: How many of clients there are.

    Returns:
        None if the books balance, else what is needed to see the round again.
    """
    clients, servers = ([], []) if broken else script.write(seed, kills)
    played = Round(cluster, folder / f"{cluster.mode}-{seed}", f"soak-{next(NUMBERS)}", (clients, servers), broken)
    start, wrong, findings = time.monotonic(), None, {}
    try:
        books = played.run()
        tally.acknowledged += len(books.acknowledged)
        if not books.balance():
            findings = {kind: lines for kind, lines in books.findings.items() if lines}
            wrong = ", ".join(f"{len(lines)} {kind}" for kind, lines in findings.items())
    except (LabError, KafkaException) as error:
        wrong = f"{type(error).__name__}: {error}"
    tally.rounds += 1
    tally.seconds += time.monotonic() - start
    tally.counted += played.counted
    tally.found += Counter({kind: len(lines) for kind, lines in findings.items()})
    if wrong is None:
        played.forget()
        return None
    played.keep(cluster.lab.stack.folder / "logs")
    again = f"python -m tools.soak --rounds 1 --mode {cluster.mode} --seed {seed}" + f" --break {broken}" * bool(broken)
    report = {
        "wrong": wrong, "seed": seed, "mode": cluster.mode, "versions": cluster.versions, "again": again,
        "broken": {broken: BREAKS[broken]} if broken else None,
        "script": {"clients": [*map(str, clients)], "servers": [*map(str, servers)]}, "findings": findings,
    }  # fmt: skip
    (played.folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    few = {**report, "findings": {kind: lines[:3] for kind, lines in findings.items()}, "logs and books": played.folder}
    return json.dumps(few, indent=1, default=str)
