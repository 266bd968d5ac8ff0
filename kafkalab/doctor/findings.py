"""What an examination finds, and checks that run at the same time within a bound."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kafkalab.errors import LabError


@dataclass(frozen=True)
class Finding:
    """One line of the examination: something that is fine, or what is wrong and how to fix it."""

    ok: bool
    text: str


Check = Callable[[], Iterable[Finding]]


def fine(text: str) -> Finding:
    """Return a finding of something that is as it should be."""
    return Finding(ok=True, text=text)


def wrong(text: str) -> Finding:
    """Return a finding of something to fix."""
    return Finding(ok=False, text=text)


def side_by_side(checks: Sequence[tuple[str, Check]], seconds: float) -> list[Finding]:
    """Run checks, each with the name of what it examines, at the same time; return what they found, in their order.

    A LabError ends a check as its last finding. The bound ends all: a thread that does not answer is left behind, since
    the system's own question for the address of a host knows no bound.
    """
    found: list[list[Finding]] = [[] for _ in checks]
    threads = [
        threading.Thread(target=_collect, args=(check, into), daemon=True)
        for (_, check), into in zip(checks, found, strict=True)
    ]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    findings = []
    for (name, _), into, thread in zip(checks, found, threads, strict=True):
        thread.join(max(0, end - time.monotonic()))
        findings += into
        if thread.is_alive():
            findings.append(wrong(f"the examination of {name} took too long: look at the network and the name server"))
    return findings


def _collect(check: Check, into: list[Finding]) -> None:
    try:
        for finding in check():
            into.append(finding)  # noqa: PERF402 - what was found before the time is over counts
    except LabError as error:
        into.append(wrong(str(error)))
