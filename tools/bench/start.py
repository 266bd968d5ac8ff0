"""How soon a stack serves, against the same servers with their usual flags one after another; the time of an import."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product

from kafkalab.embedded import artifacts
from kafkalab.embedded.servers.server import JavaServer
from kafkalab.embedded.stack import START_SECONDS, Stack
from kafkalab.waiting import wait_until
from tools.bench.measure import Row, in_turns, ratio, row

USUAL_FLAGS = ("-XX:+UseG1GC", "-Xms1g", "-Xmx1g", "-Xshare:auto")  # as kafka-server-start sets them, no archive
MODES = ("zookeeper", "kraft")


def side_by_side(brokers, mode):
    """Return the seconds until the brokers of a stack serve, until its registry does, and its resident megabytes."""
    stack, start = Stack.own(brokers, mode=mode), time.monotonic()
    try:
        stack.up()
        up = time.monotonic() - start
        wait_until(stack._servers["registry"].serves, "the registry", START_SECONDS)
        return up, time.monotonic() - start, sum(process["rss_mb"] for process in stack.processes())
    finally:
        stack.down(wipe=True)


def one_after_another(brokers, mode):
    """Return the seconds until the same servers serve with their usual flags, each started when the last one serves.

    Brokers that are the controllers too start together, since none of them serves without most of the others.
    """
    stack = Stack.own(brokers, mode=mode)
    together = list(stack.options.quorum)
    steps = [[name] for name in stack.names if name not in together] + [together] * bool(together)
    ours = JavaServer.command
    JavaServer.command = lambda s: [str(artifacts.JAVA), *USUAL_FLAGS, s.mark, *s.arguments()]
    try:
        start = time.monotonic()
        for names in steps:
            servers = [stack._servers[name] for name in names]
            with stack._locked(), stack._started(servers):
                stack._wait_for(servers)
        return time.monotonic() - start
    finally:
        JavaServer.command = ours
        stack.down(wipe=True)


def seconds_of_import(modules):
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", f"import {modules}"], check=True)
    return time.monotonic() - start


def rows(runs: int = 3, brokers: Sequence[int] = (1, 3), modes: Sequence[str] = MODES) -> Iterator[Row]:
    for mode in modes:
        side_by_side(1, mode)  # the class-data archives are there from now on
    for count in brokers:
        ways = {
            (way, mode): partial(way, count, mode) for mode, way in product(modes, (side_by_side, one_after_another))
        }
        took = in_turns(runs, ways)
        serves = {}
        for mode in modes:
            name = f"{count} broker{'s' * (count > 1)}, {mode}"
            up, serves[mode], memory = zip(*took[side_by_side, mode], strict=True)
            usual = took[one_after_another, mode]
            yield row(f"{name}: up after", up, "s")
            yield row(f"{name}: serves after, its registry too", serves[mode], "s")
            yield row(f"{name}: usual flags, one after another", usual, "s")
            yield ratio(f"{name}: sooner", usual, serves[mode])
            yield row(f"{name}: resident", memory, "MB")
        if len(serves) == len(MODES):
            yield ratio(f"{count} broker{'s' * (count > 1)}: kraft / zookeeper", serves["kraft"], serves["zookeeper"])
    ways = {names: partial(seconds_of_import, names) for names in ("confluent_kafka", "confluent_kafka, kafkalab")}
    client, both = in_turns(runs, ways).values()
    yield row("import confluent_kafka", client, "s")
    yield row("import kafkalab, on top", (two - one for one, two in zip(client, both, strict=True)), "s")
