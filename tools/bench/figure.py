"""What a live figure costs a consumer: the same loop with and without it, in turns."""

import time
from collections.abc import Iterator
from contextlib import redirect_stdout

import matplotlib as mpl
from confluent_kafka import Consumer

import kafkalab
from tools.bench import clients
from tools.bench.measure import Row, in_turns, row


def rate(lab, messages, live=None):
    """Return the messages per second of a consumer, drawing or not."""
    with Consumer(clients.reading(lab)) as consumer:
        consumer.subscribe(["bench"])
        consumer.poll(30)
        start = time.monotonic()
        for number in range(1, messages):
            value = consumer.poll(30).value()
            if live:
                live.add("value", number, len(value))
        return messages / (time.monotonic() - start)


def drawing(lab, messages):
    figure = kafkalab.LiveFigure({"Bench": ["value"]}, xlabel="messages", ylabel="bytes")
    with redirect_stdout(None), figure as live:  # where no notebook shows a figure, its name is printed
        return rate(lab, messages, live)


def rows(lab: kafkalab.Lab, runs: int = 5, messages: int = 200_000) -> Iterator[Row]:
    mpl.use("agg")
    lab.fresh_topic("bench")
    clients.fill(lab, "bench", [str(number).encode() for number in range(messages)])
    took = in_turns(runs, {"without": lambda: rate(lab, messages), "with": lambda: drawing(lab, messages)})
    for name, rates in took.items():
        yield row(f"{name} a live figure", rates, "messages/s")
    lost = (100 * (1 - on / off) for on, off in zip(took["with"], took["without"], strict=True))
    yield row("what the figure takes", lost, "%")
