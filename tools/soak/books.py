"""The books of a round: what was acknowledged, what is in the topics, what the consumer has, and whether it agrees."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple


class Entry(NamedTuple):
    """A numbered message at a place of a topic."""

    name: tuple[int, str, int]  # the producer's session, the key, the number in that session and key
    place: tuple[int, int]  # partition and offset
    source: tuple[int, int] | None = None  # of an output: the place of the input that it was made of

    @classmethod
    def of(cls, line):
        session, key, sequence, *numbers = line.split()
        *source, partition, offset = map(int, numbers)
        return cls((int(session), key, int(sequence)), (partition, offset), tuple(source) or None)


@dataclass
class Books:
    """What a round is judged by.

    Attributes:
        acknowledged: What the producers were told is in the input topic, and where.
        inputs: What a read_committed reader finds in the input topic, in its order.
        outputs: The same of the output topic.
        results: What the consumer wrote down; again at the same place is allowed, it promises at least once.
        committed: The consumer's committed offset in each partition of the output topic.
        findings: What does not agree, by kind; `balance` fills it.
    """

    acknowledged: list[Entry]
    inputs: list[Entry]
    outputs: list[Entry]
    results: list[Entry]
    committed: dict[int, int]
    findings: dict[str, list[str]] = field(default_factory=dict)

    def balance(self):
        """Compare, and return whether all agrees."""
        there = {entry.place: entry.name for entry in self.inputs}
        names, taken = set(there.values()), {entry.source for entry in self.outputs}
        results = {entry.place: entry for entry in self.results}
        self.findings = {
            "lost": [
                *(f"acknowledged, not in its place: {e}" for e in self.acknowledged if not _is_in(e, there, names)),
                *(f"input without an output: {e}" for e in self.inputs if e.place not in taken),
                *(f"output of another input: {e}" for e in self.outputs if there.get(e.source) != e.name),
            ],
            "doubled": [
                *_twice("input", (entry.name for entry in self.inputs)),
                *_twice("output", (entry.name for entry in self.outputs)),
                *_twice("result", (entry.name for entry in results.values())),
            ],
            "out of order": [
                *_disordered("input", ((e.name[:2], e.name[2], e.place) for e in self.inputs)),
                *_disordered("output", ((e.name[1], e.source, e.place) for e in self.outputs)),
            ],
            "ahead": [
                f"committed, not in the results: {e}"
                for e in self.outputs
                if e.place not in results and e.place[1] < self.committed[e.place[0]]
            ],
        }
        if not any(self.findings.values()):  # the last line of a book: the sums
            sums = {sum(e.name[2] for e in book) for book in (self.inputs, self.outputs, results.values())}
            if len(sums) > 1:
                self.findings["lost"].append(f"the sums differ: {sums}")
        return not any(self.findings.values())


def _is_in(entry, there, names):
    """Return whether a message is where its acknowledgement says; that of a repeated one may come without an offset."""
    return there.get(entry.place) == entry.name if entry.place[1] >= 0 else entry.name in names


def _twice(what, names):
    return [f"{what} {count} times: {name}" for name, count in Counter(names).items() if count > 1]


def _disordered(what, rows):
    """Return what stands behind a later one of its key; one that is doubled is no matter of order."""
    last, found = {}, []
    for key, number, place in rows:
        if key in last and number < last[key]:
            found.append(f"{what} {number} of {key} behind {last[key]}, at {place}")
        last[key] = max(number, last.get(key, number))
    return found
