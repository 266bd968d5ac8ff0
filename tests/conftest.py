"""A stack for the whole test run, beside whatever runs on this machine: its own folder, its own ports."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

import kafkalab
from kafkalab.embedded import processes
from kafkalab.embedded.options import Options
from kafkalab.embedded.stack import Stack, free_ports

KAFKA_VARIABLES = [field.alias for field in kafkalab.ClusterSettings.model_fields.values()]


def pytest_configure(config):
    """Give every test, and every kernel that nbval starts, the same shared stack."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a background job ignores, its programs ignore too
    for name in KAFKA_VARIABLES:
        os.environ.pop(name, None)
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost"]))
    ports = free_ports(3)
    config.kafkalab_home = tempfile.mkdtemp(prefix="kafkalab-tests-")
    os.environ["KAFKALAB_HOME"] = config.kafkalab_home
    os.environ["XDG_DATA_HOME"] = f"{config.kafkalab_home}/share"  # where an account's id is, on Linux
    config.kafkalab_guard = processes.guard(Path(config.kafkalab_home))  # ends the stack if a time-out ends pytest
    for name, port in zip(("ZOOKEEPER", "BROKER", "REGISTRY"), ports, strict=True):
        os.environ[f"KAFKALAB_{name}_PORT"] = str(port)


def pytest_unconfigure(config):
    Stack.shared().down(wipe=True)
    config.kafkalab_guard.communicate()
    shutil.rmtree(config.kafkalab_home, ignore_errors=True)


@pytest.fixture(scope="session")
def lab():
    """The shared stack's lab."""
    return kafkalab.connect()


@pytest.fixture
def new_stack(tmp_path):
    """Return a function that describes a stack in a folder of this test; it is ended with the test."""
    made = []

    def make(brokers: int = 1, folder: Path = tmp_path / "stack", *, secure: bool = False) -> Stack:
        ports = free_ports(brokers + 2)
        made.append(Stack(folder, Options.with_zookeeper(ports[0], ports[2:], ports[1], secure=secure)))
        return made[-1]

    yield make
    for stack in made:
        stack.down(wipe=True)
