"""PostgreSQL and Connect beside a stack: they start, end and leave nothing, however the end came about."""

import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import psutil
import psycopg
import pytest
from click.testing import CliRunner

import kafkalab
from kafkalab.cli import app
from kafkalab.embedded import processes
from kafkalab.embedded.servers.postgres import Postgres, client
from kafkalab.embedded.stack import Stack, free_ports
from kafkalab.settings import StackSettings

BESIDE = ("postgres", "connect")


def login(stack):
    return client(stack.folder, stack.options.ports["postgres"])


def family(stack):
    """Return the stack's processes and all of their children."""
    servers = [process for server in stack._servers.values() for process in server.processes()]
    return servers + [child for server in servers for child in server.children(recursive=True)]


@pytest.fixture(scope="module")
def own():
    with kafkalab.own_stack(beside=BESIDE) as own:
        yield own


def test_every_port_is_bound_to_loopback(own):
    own.check()  # the registry listens, too
    bound = [
        connection.laddr.ip
        for process in family(own.stack)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(bound) >= 6
    assert {ip.removeprefix("::ffff:") for ip in bound} == {"127.0.0.1"}


def test_all_of_it_needs_less_than_1600_megabytes(own):
    assert sum(process["rss_mb"] for process in own.stack.processes()) < 1600


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_database_has_what_was_committed_before_its_end(own, end):
    with psycopg.connect(**login(own.stack), autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (how text)")
        connection.execute("INSERT INTO kept VALUES (%s)", [end])
        getattr(own.stack, end)("postgres")  # and does not wait for this session to end
    own.stack.start("postgres")
    with psycopg.connect(**login(own.stack)) as connection:
        assert connection.execute("SELECT count(*) FROM kept WHERE how = %s", [end]).fetchone() == (1,)


def test_database_starts_after_a_crash_of_the_machine(own):
    """The process id that it has left is somebody else's by then."""
    own.stack.kill("postgres")
    note = (own.stack.folder / "data" / "postgres").resolve() / "data" / "postmaster.pid"
    other = own.stack.processes()[0]["pid"]
    note.write_text(f"{other}\n/elsewhere\n1\n5432\n\n127.0.0.1\n0 0\nready\n", encoding="utf-8")
    own.stack.start("postgres")
    assert psutil.pid_exists(other)


def test_paused_database_neither_answers_nor_asks(own):
    with psycopg.connect(**login(own.stack), autocommit=True) as connection, ThreadPoolExecutor() as pool:
        own.stack.pause("postgres")
        try:
            asked = pool.submit(lambda: connection.execute("SELECT 1").fetchone())
            assert wait([asked], timeout=1).not_done
        finally:
            own.stack.resume("postgres")
        assert asked.result(30) == (1,)


def test_variables_of_libpq_change_nothing(own, monkeypatch):
    monkeypatch.setenv("PGDATABASE", "work")
    monkeypatch.setenv("PGSSLMODE", "require")
    assert own.stack._servers["postgres"].serves()


def test_database_whose_making_was_interrupted_is_made_anew():
    stack = Stack.own(beside=["postgres"], registry=False)
    try:
        stack.up()
        stack.down()
        (stack.folder / "data" / "postgres").resolve().joinpath("password").write_text("half", encoding="utf-8")
        stack.up()
        assert not (stack.folder / "data" / "postgres").resolve().joinpath("password").exists()
        psycopg.connect(**login(stack), dbname="postgres").close()
    finally:
        stack.down(wipe=True)


def test_data_is_the_owners_alone(own):
    folder = (own.stack.folder / "data" / "postgres").resolve()
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_nothing_is_left_when_the_python_is_killed():
    code = f"import kafkalab; s = kafkalab.own_stack(beside={BESIDE}).stack; print(s.folder, flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        folder = Path(process.stdout.readline().strip())
        data = (folder / "data" / "postgres").resolve()
        servers = family(Stack.at(folder))
        assert len(servers) > 5
        assert data.exists()
        process.kill()
    kafkalab.wait_until(lambda: not folder.exists(), "the guard to forget the stack")
    assert processes.still_running(servers, 30) == []
    assert not data.exists()


@pytest.mark.parametrize("name", BESIDE)
def test_taken_port_is_named_and_nothing_runs(name):
    stack = Stack.own(beside=BESIDE)
    try:
        port = stack.options.ports[name]
        with (
            socket.create_server(("127.0.0.1", port)),
            pytest.raises(
                kafkalab.LabError, match=f"port {port} for {name} is taken by .*: stop that, or make the stack again"
            ) as error,
        ):
            stack.up()
        assert "\n" not in str(error.value)
        assert stack.state() == "stopped"
    finally:
        stack.down(wipe=True)


def test_system_without_a_postgres_is_told_so_and_nothing_is_left(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Postgres, "files", "postgres-plan9-vax")
    with pytest.raises(kafkalab.LabError, match=r"there is no postgres-plan9-vax here: .* does not run on this system"):
        kafkalab.own_stack(beside=["postgres"])
    assert list(tmp_path.iterdir()) == []


def test_connect_beside_a_secured_stack_is_refused():
    with pytest.raises(kafkalab.LabError, match="take one without security") as error:
        kafkalab.own_stack(beside=["connect"], secure=True)
    assert "\n" not in str(error.value)


def test_shared_stack_keeps_connect_until_it_is_wiped(monkeypatch, tmp_path):
    monkeypatch.setenv("KAFKALAB_HOME", str(tmp_path / "home"))
    names = ("ZOOKEEPER", "CONTROLLER", "BROKER", "REGISTRY", "CONNECT", "POSTGRES")
    for name, port in zip(names, free_ports(len(names)), strict=True):
        monkeypatch.setenv(f"KAFKALAB_{name}_PORT", str(port))

    def told(*arguments):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return result.output

    with socket.create_server(("127.0.0.1", StackSettings.read().connect_port)):
        assert "is taken by" in CliRunner().invoke(app, ["up", "--connect"]).output
    assert "connect" not in Stack.shared().names  # it has never been there
    try:
        told("up", "--connect")
        assert "take one without security" in CliRunner().invoke(app, ["up", "--secure"]).output
        assert Stack.shared().names[-2:] == list(BESIDE)
        data = (tmp_path / "home" / "data" / "postgres").resolve()
        told("down")
        told("up")
        assert Stack.shared().state() == "running"
        assert {"postgres", "connect"} <= {process["name"] for process in Stack.shared().processes() if process["pid"]}
        assert data == (tmp_path / "home" / "data" / "postgres").resolve()
    finally:
        told("down", "--wipe")
    assert not data.exists()
    assert Stack.shared().names[-2:] != list(BESIDE)
