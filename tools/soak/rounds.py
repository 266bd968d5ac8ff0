"""A round: clients and servers under a script of faults, healed, drained, and the books of it."""

import json
import math
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import psutil
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from kafkalab import LabError, wait_until
from kafkalab.cluster.messages import all_messages
from tools.soak import clients
from tools.soak.books import Books, Entry
from tools.soak.cluster import Cluster
from tools.soak.script import CLIENTS, Fault

SECONDS = 120  # for whatever has to come back, on a machine that does other things too
APART = {"process_group": 0} if sys.platform != "win32" else {}  # a Ctrl-C is meant for the soak alone
BEGIN_SECONDS = 5  # for a client to be at work before it is killed; a broker that is away may not let it
FIRST = 200  # messages, before anything is disturbed
UNSEEN = 50  # messages acknowledged while nobody but the leader has them

# What clients are told where a promise is broken on purpose, beside what all are told.
BREAKS = {
    "acks": {"producer": {"acks": "1"}},
    "isolation": {"consumer": {"isolation": "read_uncommitted"}, "worker-0": {"dies": "before the commit"}},
    "commit": {"consumer": {"commits": "early", "dies": "before the results"}},
}


class Client:
    """A client's process, which is started again whenever it has ended without having been asked to."""

    def __init__(self, told, folder):
        self.told = told
        self.sessions = 0
        self._log = folder / f"{told['name']}.log"
        self._asked = False
        self._lock = threading.Lock()
        self.start()

    def start(self):
        command = [sys.executable, "-m", "tools.soak.clients", json.dumps({**self.told, "session": self.sessions})]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, **APART)
        self.sessions += 1

    def is_at_work(self):
        return clients.working(self.sessions - 1) in self._log.read_text(encoding="utf-8")

    def kill(self):
        """End it at once, start it again, and return whether it lived."""
        with self._lock:
            lived = self.process.poll() is None
            self.stop()
            self.start()
            return lived

    def tend(self):
        """Start it again if it has ended by itself, and return whether it had."""
        with self._lock:
            if ended := not self._asked and self.process.poll() is not None:
                self.stop()
                self.start()
            return ended

    def end(self):
        """Ask it to finish what it is at and wait until it has.

        Raises:
            LabError: It did not, or not without an error.
        """
        with self._lock:
            if self.process.poll() is not None:
                self.stop()
                self.start()
            self._asked = True
            self.process.stdin.write(b"end\n")
            self.process.stdin.flush()
        try:
            code = self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            raise LabError(f"timed out after {SECONDS} s waiting for the end of {self.told['name']}") from None
        if code:
            raise LabError(f"{self.told['name']} ended with an error: {self._log}")

    def stop(self):
        self.process.kill()
        self.process.communicate()

    def pause(self):
        with suppress(psutil.NoSuchProcess):
            psutil.Process(self.process.pid).suspend()

    def resume(self):
        with suppress(psutil.NoSuchProcess):
            psutil.Process(self.process.pid).resume()


@dataclass
class Round:
    """One round on a stack of three brokers.

    Attributes:
        cluster: Three brokers.
        folder: Where the clients' files and logs are, and at the end the books.
        name: What its topics and groups are called.
        script: The faults of clients, and those of servers.
        broken: The promise that is broken on purpose, if one is.
        counted: How often each fault happened and each client ended by itself; and, as a sign that kills met clients in
            the middle of something, the messages of aborted transactions, those that are in the input though nobody
            was told so, and those that the consumer was given more than once.
    """

    cluster: Cluster
    folder: Path
    name: str
    script: tuple[list[Fault], list[Fault]]
    broken: str | None = None
    counted: Counter = field(default_factory=Counter)

    @property
    def lab(self):
        return self.cluster.lab

    def run(self):
        """Play the script, heal, drain, and return the books.

        Raises:
            LabError: The clients or the brokers did not come back in time.
        """
        self.folder.mkdir(parents=True)
        self._over, self._played = threading.Event(), False
        unsafe = {"min_insync_replicas": "1", "unclean_leader_election_enable": "true"}
        with ExitStack() as made:
            self.input, self.output = f"{self.name}-input", f"{self.name}-output"
            self.lab.topic(self.input, **(unsafe if self.broken == "acks" else {}))
            self.lab.topic(self.output)
            self.clients = {}
            made.callback(lambda: [client.stop() for client in self.clients.values()])
            for name in CLIENTS:
                self.clients[name] = Client(self._told(name), self.folder)
            lane = made.enter_context(ThreadPoolExecutor(1))
            made.callback(self._over.set)
            tended = lane.submit(self._disturb_clients)
            self._wait(lambda: self._acknowledged() > FIRST, "the first acknowledged messages")
            if self.broken == "acks":
                self._lose_what_only_the_leader_has()
            for fault in self.script[1]:
                self._disturb(fault)
            self._wait(lambda: self._played or (tended.done() and tended.result()), "the end of the script")
            books = self._drain()
            self._over.set()
            tended.result()
        for topic in (self.input, self.output):
            with suppress(LabError):  # the next round's have other names
                self.lab.drop_topic(topic)
        return books

    def keep(self, logs):
        """Keep all that a round can be seen again by: the servers' logs beside what the clients wrote."""
        shutil.copytree(logs, self.folder / "servers", dirs_exist_ok=True)

    def forget(self):
        """Remove what is of no use once the books balance."""
        shutil.rmtree(self.folder)

    def _told(self, name):
        role = name.split("-")[0]
        told = {"name": name, "role": role, "group": f"{self.name}-{role}s", "file": str(self._file(name))}
        own = BREAKS.get(self.broken, {}).get(name, {})
        return {**told, "client": self.lab.client, "input": self.input, "output": self.output, **own}

    def _file(self, name):
        return self.folder / f"{name}.book"

    def _disturb_clients(self):
        """Play the clients' part of the script, and start what ends by itself until the round is over."""
        for fault in self.script[0]:
            self._tend_for(fault.after)
            self._tend_for(BEGIN_SECONDS, self.clients[fault.target].is_at_work)
            if self._over.is_set():
                return
            if self.clients[fault.target].kill():
                self.counted[f"kill {fault.target.split('-')[0]}"] += 1
        self._played = True
        self._tend_for(math.inf)

    def _tend_for(self, seconds, enough=lambda: False):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not enough() and not self._over.wait(0.05):
            for client in self.clients.values():
                if client.tend():
                    self.counted[f"{client.told['role']} ended by itself"] += 1

    def _disturb(self, fault):
        """Disturb a broker or hold a client; all replicas are in sync before, so that two of three always are."""
        self._wait(self._all_in_sync, "all replicas to be in sync")
        self._over.wait(fault.after)
        stack, client = self.lab.stack, self.clients.get(fault.target)
        self.counted[f"{fault.kind} {fault.target.split('-')[0]}"] += 1
        begin, heal = {
            "kill": (stack.kill, stack.start),
            "restart": (stack.stop, stack.start),
            "cut": (self.cluster.cut, self.cluster.heal),
            "pause": (lambda _: client.pause(), lambda _: client.resume()) if client else (stack.pause, stack.resume),
        }[fault.kind]
        begin(fault.target)
        self._over.wait(fault.lasts)
        heal(fault.target)

    def _lose_what_only_the_leader_has(self):
        """Hold the followers, let the leader alone acknowledge, and kill it before they go on."""
        stack, leader = self.lab.stack, self._leader()
        followers = [name for name in stack.names if name.startswith("broker-") and name != leader]
        try:
            for name in followers:
                stack.pause(name)
            for what in ("what answers the followers' last fetches", "what only the leader has"):
                enough = self._acknowledged(partition=0) + UNSEEN
                self._wait(lambda enough=enough: self._acknowledged(partition=0) > enough, what)
            stack.kill(leader)
            self.counted["kill broker"] += 1
        finally:
            for name in followers:
                stack.resume(name)
        self._wait(lambda: self._leader() not in {leader, "broker--1", None}, "another leader")
        stack.start(leader)

    def _drain(self):
        """End the clients one after another, each when it has all that the one before it left, and return the books."""
        self.clients["producer"].end()
        inputs = self._read(self.input)
        self._wait(lambda: self._has_committed("worker", inputs), "the workers to have read the whole input")
        for name in ("worker-0", "worker-1"):
            self.clients[name].end()
        outputs = self._read(self.output)
        self.counted["aborted"] = len(self._read(self.output, "read_uncommitted")) - len(outputs)
        self._wait(lambda: self._has_committed("consumer", outputs), "the consumer to have read the whole output")
        self.clients["consumer"].end()
        acknowledged, results = self._entries("producer"), self._entries("consumer")
        self.counted["sent, unknown"] = len(inputs) - len(acknowledged)
        self.counted["consumed again"] = len(results) - len(set(results))
        return Books(acknowledged, inputs, outputs, results, self._committed("consumer"))

    def _read(self, topic, isolation="read_committed"):
        """Return what a reader finds, and keep it."""
        messages = []

        def read():
            with suppress(LabError, KafkaException):  # a leader moved, or the machine is busy
                messages[:] = all_messages({**self.lab.client, "isolation.level": isolation}, topic)
            return messages

        self._wait(read, f"the messages of {topic}")
        lines = [f"{message.value().decode()} {message.partition()} {message.offset()}" for message in messages]
        (self.folder / f"{topic}-{isolation}.book").write_text("\n".join(lines), encoding="utf-8")
        return [Entry.of(line) for line in lines]

    def _entries(self, name):
        lines = self._file(name).read_text(encoding="utf-8").splitlines()
        return [Entry.of(line.removesuffix(clients.WHOLE)) for line in lines if line.endswith(clients.WHOLE)]

    def _has_committed(self, role, entries):
        """Return whether a group's committed offsets are behind the last entry of each partition."""
        last = dict(sorted(entry.place for entry in entries))
        with suppress(KafkaException):  # its coordinator was killed a moment ago
            committed = self._committed(role)
            return all(committed[partition] > offset for partition, offset in last.items())
        return False

    def _committed(self, role):
        topic = self.input if role == "worker" else self.output
        with Consumer({**self.lab.client, "group.id": f"{self.name}-{role}s", "log_level": 0}) as consumer:
            asked = [TopicPartition(topic, partition) for partition in range(3)]
            return {found.partition: max(found.offset, 0) for found in consumer.committed(asked, timeout=5)}

    def _acknowledged(self, partition=None):
        """Return how many messages are acknowledged, in all or in one partition."""
        with suppress(FileNotFoundError):
            return sum(partition in {None, entry.place[0]} for entry in self._entries("producer"))
        return 0

    def _leader(self):
        """Return the leader of the input's first partition."""
        with suppress(KafkaException):
            partitions = self._admin.list_topics(self.input, timeout=2).topics[self.input].partitions
            return f"broker-{partitions[0].leader}"
        return None

    def _all_in_sync(self):
        with suppress(KafkaException):
            topics = self._admin.list_topics(timeout=2).topics.values()
            partitions = [partition for topic in topics for partition in topic.partitions.values()]
            return all(len(partition.isrs) == len(partition.replicas) for partition in partitions)
        return False

    @cached_property
    def _admin(self):
        return AdminClient({**self.lab.client, "log_level": 0})

    @staticmethod
    def _wait(question, what):
        wait_until(question, what, SECONDS, every=0.1)
