import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import clients
import psutil
import pytest

import kafkalab
from kafkalab.embedded import artifacts, processes
from kafkalab.embedded.servers.broker import brokers_known_at
from kafkalab.embedded.stack import Stack
from kafkalab.lessons.brokers import sign_offs
from kafkalab.settings import StackSettings


def pids(stack):
    return [process["pid"] for process in stack.status()["processes"]]


def python(code, **variables):
    """Start another Python with the shared stack of this test run, or of the variables."""
    environment = {**os.environ, **variables}
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)


in_both_modes = pytest.mark.parametrize("mode", ["zookeeper", "kraft"])


@in_both_modes
def test_down_and_up_restores_everything_and_wipe_forgets_it(new_stack, mode):
    stack = new_stack(mode=mode)
    stack.up()
    assert clients.produce(stack.bootstrap_servers, "kept", [b"one", b"two"]) == 2
    assert clients.read(stack.bootstrap_servers, "kept", 1) == [b"one"]
    clients.register(stack.schema_registry_url, "kept-value")

    stack.down()
    assert stack.state() == "stopped"
    stack.up()
    assert clients.committed(stack.bootstrap_servers, "kept") == 1
    assert clients.read(stack.bootstrap_servers, "kept", 1) == [b"two"]
    assert clients.subjects(stack.schema_registry_url) == ["kept-value"]

    stack.down(wipe=True)
    assert not stack.folder.exists()
    stack.up()
    assert clients.topics(stack.bootstrap_servers) == []
    assert clients.subjects(stack.schema_registry_url) == []


@in_both_modes
def test_killed_servers_lose_nothing_acknowledged(new_stack, mode):
    stack = new_stack(mode=mode)
    stack.up()
    sent = [str(number).encode() for number in range(2000)]
    assert clients.produce(stack.bootstrap_servers, "kept", sent) == 2000
    clients.register(stack.schema_registry_url, "kept-value")
    for name in reversed(stack.names):
        stack.kill(name)
    assert stack.state() == "stopped"
    stack.up()
    assert clients.read(stack.bootstrap_servers, "kept", 2000) == sent
    assert clients.subjects(stack.schema_registry_url) == ["kept-value"]


def test_three_brokers_one_killed_and_started_again(new_stack):
    stack = new_stack(3)
    stack.up()
    ports = stack.options.broker_ports
    kafkalab.wait_until(lambda: all(brokers_known_at(port) == {0, 1, 2} for port in ports), "all to know each other")
    stack.kill("broker-1")
    assert stack.state() == "degraded"
    kafkalab.wait_until(lambda: brokers_known_at(ports[0]) == {0, 2}, "the others to notice")
    stack.start("broker-1")
    kafkalab.wait_until(lambda: brokers_known_at(ports[0]) == {0, 1, 2}, "the others to notice")
    with pytest.raises(kafkalab.LabError, match="no server 'broker-7' in this stack, only zookeeper, broker-0"):
        stack.kill("broker-7")


def test_paused_broker_is_silent_until_it_goes_on_and_can_be_ended(new_stack):
    stack = new_stack()
    stack.up()
    (port,) = stack.options.broker_ports
    stack.pause("broker-0")
    assert brokers_known_at(port) == set()
    assert stack.state() == "running"
    stack.resume("broker-0")
    kafkalab.wait_until(lambda: brokers_known_at(port) == {0}, "the broker to answer again")
    stack.kill("broker-0")
    stack.start("broker-0")
    assert sign_offs(stack.log("broker-0")) == 0
    stack.pause("broker-0")
    stack.stop("broker-0")
    assert sign_offs(stack.log("broker-0")) == 1  # it was not killed
    stack.pause("broker-0")  # nothing happens to one that does not run
    stack.resume("broker-0")


def test_every_port_is_bound_to_loopback(lab):
    clients.subjects(lab.stack.schema_registry_url)  # the registry may still be starting
    bound = [
        connection.laddr.ip
        for server in lab.stack._servers.values()
        for process in server.processes()
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(bound) >= 4  # the registry has two, its own and its front's
    assert {ip.removeprefix("::ffff:") for ip in bound} == {"127.0.0.1"}


def test_stack_outlives_the_python_that_started_it(tmp_path, new_stack):
    home = tmp_path / "home"
    ports = new_stack().options.ports
    variables = {
        "KAFKALAB_HOME": str(home),
        "KAFKALAB_ZOOKEEPER_PORT": str(ports["zookeeper"]),
        "KAFKALAB_BROKER_PORT": str(ports["broker-0"]),
        "KAFKALAB_REGISTRY_PORT": str(ports["registry"]),
    }
    code = "import json, kafkalab; print(json.dumps(kafkalab.connect().stack.status()))"
    two_at_once = [python(code, **variables) for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=120)[0]) for process in two_at_once]
    stack = Stack.at(home)
    try:
        assert stack.state() == "running"
        assert [[process["pid"] for process in answer["processes"]] for answer in answers] == [pids(stack)] * 2
    finally:
        stack.down(wipe=True)


def test_own_stack_ends_with_its_python_even_when_that_is_killed():
    code = "import kafkalab; s = kafkalab.own_stack().stack; print(s.folder, flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        folder = Path(process.stdout.readline().strip())
        servers = [psutil.Process(pid) for pid in pids(Stack.at(folder))]
        assert len(servers) == 3
        process.kill()
    kafkalab.wait_until(lambda: not folder.exists(), "the guard to forget the stack")
    assert processes.still_running(servers, 30) == []


def test_process_of_somebody_else_is_never_signalled(new_stack):
    stack = new_stack()
    somebody = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with somebody:
        record = stack.folder / "run" / "broker-0.pid"
        record.parent.mkdir(parents=True)
        record.write_text(str(somebody.pid), encoding="ascii")
        stack.options.write(stack.folder)
        assert stack.state() == "stopped"
        stack.kill("broker-0")
        stack.down()
        assert somebody.poll() is None
        somebody.communicate(b"\n", timeout=120)


@pytest.mark.parametrize(("name", "variable"), [("registry", "REGISTRY"), ("broker-0", "BROKER")])
def test_taken_port_is_named_with_who_has_it_before_anything_starts(name, variable, new_stack):
    stack = new_stack(mode="kraft")
    port = stack.options.ports[name]
    who = "another process" if sys.platform == "darwin" else rf"\S+ \(process {os.getpid()}\)"
    expected = rf"port {port} for {name} is taken by {who}: stop that, or choose another .* KAFKALAB_{variable}_PORT"
    with socket.create_server(("127.0.0.1", port)), pytest.raises(kafkalab.LabError, match=expected):
        stack.up()
    assert stack.state() == "stopped"
    assert not list((stack.folder / "logs").glob("*.log"))


def test_other_options_than_the_running_stack_has(lab):
    with pytest.raises(kafkalab.LabError, match=r"runs with 1 broker.*not 3.*kafkalab down"):
        kafkalab.connect(brokers=3)
    with pytest.raises(kafkalab.LabError, match="1 to 5 brokers, not 6"):
        kafkalab.connect(brokers=6)


def test_server_that_dies_at_start_tells_its_reason_and_nothing_runs(new_stack):
    stack = new_stack()
    data = stack.folder / "data" / "broker-0"
    data.mkdir(parents=True)
    stack.options.write(stack.folder)
    (data / "meta.properties").write_text("version=0\nbroker.id=0\ncluster.id=somebody-elses\n", encoding="ascii")
    with pytest.raises(kafkalab.LabError, match=r"broker-0 ended: .*Invalid cluster.id.*broker-0\.log") as error:
        stack.up()
    assert "\n" not in str(error.value)
    assert stack.state() == "stopped"


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT can be sent to another process there")
def test_interrupted_start_leaves_nothing_running(new_stack):
    stack = new_stack()
    code = f"""
from pathlib import Path
from kafkalab.embedded.options import Options
from kafkalab.embedded.stack import Stack
stack = Stack(Path({str(stack.folder)!r}), Options("zookeeper", {dict(stack.options.ports)!r}))
try:
    stack.up()
except KeyboardInterrupt:
    print("interrupted", stack.state())
"""
    with python(code) as starter:
        record = stack.folder / "run" / "broker-0.pid"
        kafkalab.wait_until(lambda: record.exists() or starter.poll() is not None, "the start of the broker", 120)
        starter.send_signal(signal.SIGINT)
        assert starter.communicate(timeout=120)[0] == "interrupted stopped\n"
    stack.up()
    assert stack.state() == "running"


def test_server_that_cannot_be_recorded_is_ended_at_once(tmp_path):
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    with pytest.raises(FileNotFoundError):
        processes.start(sleeper, tmp_path / "log", tmp_path, tmp_path / "none" / "record")
    assert processes._children[-1][0].returncode is not None


def test_process_is_known_before_the_system_shows_its_command_line(monkeypatch, tmp_path):
    record, mark = tmp_path / "record", "-Dkafkalab.server=sleeper"
    processes.start([sys.executable, "-c", "import time; time.sleep(600)", mark], tmp_path / "log", tmp_path, record)
    monkeypatch.setattr(psutil.Process, "cmdline", lambda _: [])  # as Linux does for a moment
    process = processes.running(record, mark)
    assert process is not None
    process.kill()
    process.wait(120)
    assert processes.running(record, mark) is None


def test_folder_that_cannot_be_written(tmp_path, new_stack):
    (tmp_path / "file").touch()
    stack = new_stack(folder=tmp_path / "file" / "stack")
    with pytest.raises(kafkalab.LabError, match=r"cannot write to .*stack.*KAFKALAB_HOME"):
        stack.up()


@pytest.mark.parametrize("command", ["start", "stop", "kill"])
def test_server_of_a_stack_that_was_never_up(new_stack, command):
    stack = new_stack()
    with pytest.raises(kafkalab.LabError, match=r"there is no stack in .* yet: `kafkalab up` makes it"):
        getattr(stack, command)("broker-0")
    assert not stack.folder.exists()


def test_stack_that_runs_on_another_machine_is_left_alone(monkeypatch, new_stack):
    stack = new_stack()
    stack.options.write(stack.folder)
    record = stack.folder / "run" / "broker-0.pid"
    record.parent.mkdir()
    record.write_text("1234 pc-7", encoding="utf-8")
    monkeypatch.setenv("KAFKALAB_HOME", str(stack.folder))
    commands = [Stack.shared, stack.state, stack.up, stack.down, lambda: stack.kill("broker-0")]
    for command in commands:
        with pytest.raises(kafkalab.LabError, match=r"runs on pc-7, which shares this folder: `kafkalab down` there"):
            command()
    assert record.exists()
    record.unlink()
    assert stack.state() == "stopped"


@pytest.mark.skipif(sys.platform == "win32", reason="modes of folders mean nothing there")
def test_folders_are_the_owners_alone(new_stack):
    stack = new_stack()
    stack.folder.mkdir(mode=0o755)
    (stack.folder / "logs").mkdir(mode=0o755)
    stack.options.write(stack.folder)
    stack.up()
    assert [(stack.folder / name).stat().st_mode & 0o777 for name in ("data", "logs", "run", "tmp")] == [0o700] * 4


def test_servers_start_whatever_the_environment_and_the_names_of_folders(monkeypatch, new_stack, tmp_path):
    """Blanks and letters beyond ASCII, a locale without them, options that Java and Quarkus take from variables."""
    cache, usual = tmp_path / "kept für später", StackSettings.read().cache
    cache.mkdir()
    for path in (artifacts.registry_jar().parent, usual / "jars"):
        (cache / path.name).symlink_to(path, target_is_directory=True)
    monkeypatch.setenv("KAFKALAB_CACHE", str(cache))
    for name, value in {
        "LC_ALL": "C", "LANG": "C", "_JAVA_OPTIONS": "-Xmx1m", "JAVA_TOOL_OPTIONS": "-Xmx1m",
        "JDK_JAVA_OPTIONS": "-Xmx1m", "QUARKUS_HTTP_ROOT_PATH": "/elsewhere",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    stack = new_stack(folder=tmp_path / "mein Stück")
    stack.up()
    made = {path.name for files in ("kafka", "registry") for path in artifacts.archives(files).iterdir()}
    assert made == {"base.jsa", "zookeeper.jsa", "broker.jsa", "registry.jsa"}


def test_own_stack_ends_although_a_module_beside_the_notebook_has_a_name_of_pythons(tmp_path):
    (tmp_path / "random.py").write_text("raise SystemExit('not this one')\n", encoding="utf-8")
    code = "from kafkalab.embedded.stack import Stack; print(Stack.own().folder)"
    command = [sys.executable, "-P", "-c", code]  # as a kernel, which has imported Python's own already
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()
    kafkalab.wait_until(lambda: not Path(made).exists(), "the guard to forget the stack")


def test_folder_that_is_not_a_stacks(monkeypatch, tmp_path):
    (tmp_path / "stack.json").write_text("[]", encoding="utf-8")
    monkeypatch.setenv("KAFKALAB_HOME", str(tmp_path))
    with pytest.raises(kafkalab.LabError, match=r"stack\.json is not a stack's: remove it"):
        Stack.shared()


def test_fewer_brokers_than_the_folder_has_data_of(monkeypatch, new_stack):
    stack = new_stack(3)
    for number in range(3):
        (stack.folder / "data" / f"broker-{number}").mkdir(parents=True)
    monkeypatch.setenv("KAFKALAB_HOME", str(stack.folder))
    with pytest.raises(kafkalab.LabError, match=r"holds the data of 3 brokers.*--brokers 3.*--wipe"):
        Stack.shared(1)
    assert len(Stack.shared().options.broker_ports) == 3


def test_wipe_removes_nothing_that_is_not_the_stacks(new_stack):
    stack = new_stack()
    stack.folder.mkdir()
    (stack.folder / "mine.txt").touch()
    stack.options.write(stack.folder)
    stack.down(wipe=True)
    assert [path.name for path in stack.folder.iterdir()] == ["mine.txt"]


def test_folder_of_somebody_else_is_left_alone(new_stack):
    stack = new_stack()
    theirs = [stack.folder / "data" / "thesis.txt", stack.folder / "logs" / "diary.txt"]
    for path in theirs:
        path.parent.mkdir(parents=True)
        path.touch()
    with pytest.raises(kafkalab.LabError, match="is not a stack's folder: name another one in KAFKALAB_HOME"):
        stack.up()
    stack.down(wipe=True)
    assert all(path.exists() for path in theirs)


def test_relative_home_and_cache_are_made_absolute(monkeypatch):
    monkeypatch.setenv("KAFKALAB_HOME", "here/home")
    monkeypatch.setenv("KAFKALAB_CACHE", "~/cache")
    settings = StackSettings.read()
    assert settings.home == Path.cwd() / "here" / "home"
    assert settings.cache == Path.home() / "cache"


def test_too_many_brokers_leave_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(kafkalab.LabError, match="1 to 5 brokers, not 9"):
        kafkalab.own_stack(9)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no orderly end of another process")
def test_only_an_orderly_end_removes_the_record(new_stack):
    stack = new_stack()
    stack.up()
    stack.stop("registry")
    stack.kill("broker-0")
    assert sorted(path.stem for path in (stack.folder / "run").iterdir()) == ["broker-0", "zookeeper"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no orderly end of another process")
def test_another_python_ends_it_in_an_orderly_way(new_stack):
    """The servers are children of this Python, which takes no leave of them meanwhile."""
    stack = new_stack()
    stack.up()
    code = "from pathlib import Path; from kafkalab.embedded.stack import Stack; "
    code += f"Stack.at(Path({str(stack.folder)!r})).down()"
    with python(code) as ending:
        assert ending.wait(120) == 0
    assert list((stack.folder / "run").iterdir()) == []
