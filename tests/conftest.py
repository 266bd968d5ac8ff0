"""A stack for each worker of the test run, beside whatever runs on this machine: its own folder, its own ports."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import clients
import pytest
import retries
from xdist.scheduler import LoadScopeScheduling

import kafkalab
from kafkalab.embedded import artifacts, processes
from kafkalab.embedded.options import Options
from kafkalab.embedded.servers import SERVERS
from kafkalab.embedded.stack import Stack, free_ports

KAFKA_VARIABLES = [field.alias for field in kafkalab.ClusterSettings.model_fields.values()]


LONG = (  # the longest first
    "15_exercise", "16_exercise", "02_exercise", "12_exercise", "17_exercise", "14_exercise", "test_soak",
    "test_series", "_exercise", "test_compose", "classroom", "doctor", "embedded", "notebooks",
)  # fmt: skip
SWEEP = """
import contextlib, pathlib, shutil, sys
from kafkalab.embedded.stack import Stack
from kafkalab.errors import LabError
sys.stdin.read()
for options in list(pathlib.Path(sys.argv[1]).rglob("stack.json")):
    with contextlib.suppress(LabError):  # a test's own file of that name
        if stack := Stack.at(options.parent):
            stack.down(wipe=True)
shutil.rmtree(sys.argv[1])
"""


def pytest_configure(config):
    """Give every test, and every kernel that nbval starts, the same shared stack; each worker of xdist has another."""
    config.pluginmanager.register(retries)  # hooks of this file are not called for notebooks, which are not below it
    for number in (signal.SIGINT, signal.SIGTERM):  # a background job ignores the first, and so would its programs
        signal.signal(number, signal.default_int_handler)
    for name in KAFKA_VARIABLES:
        os.environ.pop(name, None)
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost"]))
    if hasattr(config, "workerinput"):
        home = Path(os.environ["KAFKALAB_HOME"]).with_name(config.workerinput["workerid"])
    else:
        root = tempfile.mkdtemp(prefix="kafkalab-tests-")
        home = Path(root) / "main"
        os.environ["PYTEST_DEBUG_TEMPROOT"] = root  # for the stacks in folders of the tests too
        # ends all stacks and forgets them as soon as pytest is gone, however it ended
        config.kafkalab_sweep = processes._spawn([sys.executable, "-c", SWEEP, root], stdin=subprocess.PIPE)
        for mode in SERVERS:  # now, for a notebook shows how far a download is, and nbval takes that for its output
            Stack.fetch(mode)
        artifacts.fetch(sets=artifacts.here())
    os.environ["KAFKALAB_HOME"] = str(home)
    os.environ["XDG_DATA_HOME"] = f"{home}-share"  # where an account's id is, on Linux
    for name, port in clients.ports_of(home.name).items():
        os.environ[f"KAFKALAB_{name}_PORT"] = str(port)


def pytest_unconfigure(config):
    Stack.shared().down(wipe=True)
    if not hasattr(config, "workerinput"):
        config.kafkalab_sweep.communicate()


def unit(nodeid):
    """Return the name of what runs in one worker: a file, a part of the series, an exercise with its checks."""
    part = re.search(r"\d\d_exercise|test_backwards.*", nodeid)
    return part[0] if part else nodeid.split("::")[0]


def pytest_collection_modifyitems(items):
    """Long units first; a solution before the test of its checks, which wants what an earlier run leaves behind."""

    def place(item):
        length = next((number for number, part in enumerate(LONG) if part in item.nodeid), len(LONG))
        return length, unit(item.nodeid), item.path.suffix != ".ipynb"

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Let the workers of `--dist loadscope` take units."""

    class Units(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return unit(nodeid)

    return Units(config, log)


@pytest.fixture(scope="session")
def lab():
    """The shared stack's lab; its registry serves too."""
    lab = kafkalab.connect()
    lab.check()
    return lab


@pytest.fixture(autouse=True)
def no_figure_is_left():
    """Close what a test has drawn, however the test ended."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture
def new_stack(tmp_path):
    """Return a function that describes a stack in a folder of this test; it is ended with the test."""
    made = []

    def make(brokers=1, folder=tmp_path / "stack", *, mode="zookeeper", controllers=0, secure=False):
        registry, *ports = free_ports(1 + brokers + (1 if mode == "zookeeper" else controllers or brokers))
        ports, rest = ports[:brokers], ports[brokers:]
        if mode == "zookeeper":
            options = Options.with_zookeeper(rest[0], ports, secure=secure)
        else:
            options = Options.with_kraft(ports, rest, apart=controllers > 0, secure=secure)
        made.append(Stack(folder, options.beside({"registry": registry})))
        return made[-1]

    yield make
    for stack in made:
        stack.down(wipe=True)
