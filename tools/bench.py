"""Start time, memory, import time and the cost of a live figure, as ratios in one run: `make bench`."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout

import matplotlib as mpl
from confluent_kafka import Consumer, Producer

import kafkalab
from kafkalab.embedded import artifacts
from kafkalab.embedded.servers.server import JavaServer
from kafkalab.embedded.stack import Stack, free_ports

USUAL_FLAGS = ("-XX:+UseG1GC", "-Xms1g", "-Xmx1g", "-Xshare:auto")  # as kafka-server-start sets them, no archive
RUNS = 3
MESSAGES = 200_000


def seconds_side_by_side(brokers):
    """Return the seconds until a stack serves, and its resident memory in megabytes."""
    stack, start = Stack.own(brokers), time.monotonic()
    stack.up()
    took = time.monotonic() - start
    memory = sum(process["rss_mb"] for process in stack.status()["processes"])
    stack.down(wipe=True)
    return took, memory


def seconds_one_after_another(brokers):
    """Return the seconds until the same servers serve with their usual flags, each started when the last one serves."""
    stack = Stack.own(brokers)
    ours = JavaServer.command
    JavaServer.command = lambda s: [str(artifacts.JAVA), *USUAL_FLAGS, s.mark, *s.arguments()]
    try:
        start = time.monotonic()
        for name in stack.names:
            stack.start(name)
        took = time.monotonic() - start
    finally:
        JavaServer.command = ours
        stack.down(wipe=True)
    return took


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
    kafkalab.own_stack().stack.down(wipe=True)  # the class-data archives are there from now on
    for brokers in (1, 3):
        quick = [seconds_side_by_side(brokers) for _ in range(RUNS)]
        slow = [seconds_one_after_another(brokers) for _ in range(RUNS)]
        ours, usual = statistics.median(took for took, _ in quick), statistics.median(slow)
        memory = statistics.median(memory for _, memory in quick)
        print(
            f"{brokers} broker(s): serves after {ours:.1f} s, {usual:.1f} s with the usual flags one after another:",
            end=" ",
        )
        print(f"{usual / ours:.1f} times sooner; {memory:.0f} MB resident")

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
    ports = free_ports(3)
    with tempfile.TemporaryDirectory(prefix="kafkalab-bench-") as folder:
        home = {"KAFKALAB_HOME": folder, "KAFKALAB_ZOOKEEPER_PORT": ports[0], "KAFKALAB_BROKER_PORT": ports[1]}
        environment = os.environ | {k: str(v) for k, v in home.items()} | {"KAFKALAB_REGISTRY_PORT": str(ports[2])}
        start = time.monotonic()
        command = [sys.executable, "-m", "kafkalab", "run", "--build", f"{folder}/build"]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return (time.monotonic() - start) / 60


if __name__ == "__main__":
    main()
