"""Start time and memory of both modes, import time, the cost of a live figure, as ratios in one run: `make bench`."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import redirect_stdout
from itertools import product

import matplotlib as mpl
import pandas as pd
from confluent_kafka import Consumer, Producer

import kafkalab
from kafkalab.embedded import artifacts
from kafkalab.embedded.servers.server import JavaServer
from kafkalab.embedded.stack import Stack, free_ports

USUAL_FLAGS = ("-XX:+UseG1GC", "-Xms1g", "-Xmx1g", "-Xshare:auto")  # as kafka-server-start sets them, no archive
RUNS = 3
MODES = ("zookeeper", "kraft")
BROKERS = (1, 3)
MESSAGES = 200_000


def seconds_side_by_side(brokers, mode):
    """Return the seconds until a stack serves, and its resident memory in megabytes."""
    stack, start = Stack.own(brokers, mode=mode), time.monotonic()
    try:
        stack.up()
        return time.monotonic() - start, sum(process["rss_mb"] for process in stack.processes())
    finally:
        stack.down(wipe=True)


def seconds_one_after_another(brokers, mode):
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


def starts(brokers):
    """Return what a stack of so many brokers takes in each mode, and the ratio of the modes."""
    quick, slow = defaultdict(list), defaultdict(list)
    for _, mode in product(range(RUNS), MODES):  # in turns, so that a busy moment spoils no mode alone
        quick[mode].append(seconds_side_by_side(brokers, mode))
        slow[mode].append(seconds_one_after_another(brokers, mode))
    rows = {}
    for mode in MODES:
        ours, usual = statistics.median(took for took, _ in quick[mode]), statistics.median(slow[mode])
        memory = statistics.median(memory for _, memory in quick[mode])
        rows[mode] = [ours, usual, usual / ours, memory]
    rows["kraft/zookeeper"] = [ours / other for ours, other in zip(rows["kraft"], rows["zookeeper"], strict=True)]
    columns = ["serves after (s)", "usual flags, in turn (s)", "times sooner", "resident (MB)"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return table.rename(lambda mode: f"{brokers} broker{'s' * (brokers > 1)}, {mode}")


def seconds_of_import(module):
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.monotonic() - start


def rate(lab, live):
    """Return the messages per second of a consumer, drawing or not."""
    own = {"group.id": f"bench-{time.time_ns()}", "auto.offset.reset": "earliest"}
    with Consumer({**lab.client, **own}) as consumer:
        consumer.subscribe(["bench"])
        consumer.poll(30)
        start = time.monotonic()
        for number in range(1, MESSAGES):
            value = consumer.poll(30).value()
            if live:
                live.add("value", number, len(value))
        return MESSAGES / (time.monotonic() - start)


def main():
    mpl.use("agg")
    for mode in MODES:
        kafkalab.own_stack(mode=mode).stack.down(wipe=True)  # the class-data archives are there from now on
    print(pd.concat(map(starts, BROKERS)).to_string(float_format="{:.2f}".format))

    client = statistics.median(seconds_of_import("confluent_kafka") for _ in range(5))
    whole = statistics.median(seconds_of_import("confluent_kafka, kafkalab") for _ in range(5))
    print(f"import kafkalab: {whole - client:.2f} s more than import confluent_kafka ({client:.2f} s)")

    with kafkalab.own_stack() as lab:
        lab.topic("bench")
        with Producer(lab.client) as producer:
            for number in range(MESSAGES):
                producer.produce("bench", str(number))
                if number % 10_000 == 0:
                    producer.flush()
        without, drawing = [], []
        for _ in range(RUNS):
            without.append(rate(lab, None))
            figure = kafkalab.LiveFigure({"Bench": ["value"]}, xlabel="messages", ylabel="bytes")
            with redirect_stdout(None), figure as live:  # where no notebook shows a figure, its name is printed
                drawing.append(rate(lab, live))
    lost = 1 - statistics.median(drawing) / statistics.median(without)
    print(
        f"live figure: {statistics.median(drawing):,.0f} messages/s, {statistics.median(without):,.0f} without:",
        end=" ",
    )
    print(f"{lost:.1%} of the throughput")
    print(f"the whole series headless, a fresh stack included: {minutes_of_the_series():.1f} minutes")


def minutes_of_the_series():
    """Return the minutes that `kafkalab run` takes for all lessons, a fresh stack included."""
    kinds = ("ZOOKEEPER", "CONTROLLER", "BROKER", "REGISTRY")
    ports = {f"KAFKALAB_{kind}_PORT": str(port) for kind, port in zip(kinds, free_ports(len(kinds)), strict=True)}
    with tempfile.TemporaryDirectory(prefix="kafkalab-bench-") as folder:
        environment = os.environ | ports | {"KAFKALAB_HOME": folder}
        start = time.monotonic()
        command = [sys.executable, "-m", "kafkalab", "run", "--build", f"{folder}/build"]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return (time.monotonic() - start) / 60


if __name__ == "__main__":
    main()
