"""The claims of the lessons on delivery and failure, under random faults; and that the books can fail."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

import psutil
import pytest

import kafkalab
from kafkalab.embedded.servers import SERVERS
from tools.soak import cluster, script
from tools.soak.books import Books, Entry
from tools.soak.clients import KEYS
from tools.soak.rounds import BREAKS
from tools.soak.tally import Tally, play

SEEDS = range(5)
BROKEN = [("zookeeper", "acks", "lost"), ("kraft", "isolation", "doubled"), ("kraft", "commit", "ahead")]
KILLS = 9  # in a round; `make soak` has more


@pytest.fixture(scope="module", params=SERVERS)
def brokers(request):
    with cluster.started(request.param) as started:
        yield started


@pytest.fixture
def kept():
    """A folder that outlives the tests if something is left in it: what a failed round is seen again by."""
    folder = Path(mkdtemp(prefix="kafkalab-soak-"))
    yield folder
    with suppress(OSError):
        folder.rmdir()


@pytest.mark.flaky(reruns=1, only_rerun="LabError: timed out")  # a machine too busy; never books that do not balance
@pytest.mark.parametrize("seed", SEEDS)
def test_books_balance_after_kills(brokers, kept, seed):
    tally = Tally()
    wrong = play(brokers, seed, kept, tally, kills=KILLS)
    assert not wrong, wrong
    assert tally.kills >= KILLS / 2
    assert tally.acknowledged > 200


@pytest.mark.parametrize(("brokers", "broken", "kind"), BROKEN, indirect=["brokers"])
def test_a_broken_promise_is_found(brokers, tmp_path, broken, kind):
    tally = Tally()
    wrong = play(brokers, 0, tmp_path, tally, broken)
    assert [found for found, number in tally.found.items() if number] == [kind]
    assert f"--break {broken}" in wrong
    folder = next(tmp_path.iterdir())
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["findings"][kind]
    assert {"broker-0.log", "broker-2.log"} <= {path.name for path in (folder / "servers").iterdir()}


def test_every_promise_is_broken_once():
    assert sorted(broken for _, broken, _ in BROKEN) == sorted(BREAKS)


def test_a_seed_gives_the_same_script_and_the_seeds_every_fault():
    assert [script.write(seed, KILLS) for seed in SEEDS] == [script.write(seed, KILLS) for seed in SEEDS]
    faults = [fault for seed in SEEDS for lane in script.write(seed, KILLS) for fault in lane]
    assert {(fault.kind, fault.target.split("-")[0]) for fault in faults} == {
        *(("kill", name) for name in ("producer", "worker", "consumer", "broker")),
        *(("pause", name) for name in ("worker", "broker")),
        ("cut", "broker"),
        ("restart", "broker"),
    }  # fmt: skip


def entries(*numbers, sources=False):
    """Return messages of one key, each at the offset of its turn."""
    return [
        Entry((0, KEYS[0], number), (0, place), (0, number) if sources else None)
        for place, number in enumerate(numbers)
    ]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({}, None),
        ({"inputs": entries(0, 1)}, "lost"),
        ({"outputs": entries(0, 2, sources=True)}, "lost"),
        ({"inputs": entries(0, 1, 2, 2)}, "doubled"),
        ({"outputs": entries(0, 1, 2, 1, sources=True)}, "doubled"),
        ({"outputs": entries(1, 0, 2, sources=True)}, "out of order"),
        ({"results": entries(0, 1, sources=True)}, "ahead"),
        ({"results": entries(0, 0, 1, 2, sources=True)}, "doubled"),
        ({"results": entries(0, 1, 2, sources=True) * 2}, None),  # at the same places: at least once
    ],
)
def test_books_tell_what_does_not_agree(change, kind):
    good = {"acknowledged": entries(0, 1, 2), "inputs": entries(0, 1, 2), "outputs": entries(0, 1, 2, sources=True)}
    books = Books(**{**good, "results": good["outputs"], "committed": {0: 3}, **change})
    assert books.balance() == (kind is None)
    assert kind is None or books.findings[kind]


@pytest.mark.skipif(sys.platform == "win32", reason="has no process groups")
def test_clients_end_with_the_soak_also_a_paused_one(tmp_path):
    """The client's standard input ends with the soak; a stopped one of its session is woken and ended by the system."""
    told = {"name": "consumer", "role": "consumer", "group": "g", "output": "o", "file": str(tmp_path / "book")}
    told["client"] = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
    code = f"""
from pathlib import Path
from tools.soak.rounds import Client
clients = [Client({told!r}, Path({str(tmp_path)!r})) for _ in range(2)]
clients[0].pause()
print(*[client.process.pid for client in clients], flush=True)
input()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as soak:
        clients = [psutil.Process(int(number)) for number in soak.stdout.readline().split()]
        assert all(client.is_running() for client in clients)
        soak.kill()
    assert len(clients) == 2
    kafkalab.wait_until(lambda: not any(_lives(client) for client in clients), "the clients to end")


def _lives(process):
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
