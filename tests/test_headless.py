"""`kafkalab run`: notebooks side by side, each in a kernel, and nothing left of them."""

import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import psutil
import pytest

import kafkalab
from kafkalab import cli, headless
from kafkalab.embedded.stack import Stack, free_ports

RUN = """
import pathlib, sys
from kafkalab import cli, headless
headless.NOTEBOOKS = pathlib.Path(sys.argv.pop(1))
cli.app()
"""
WAIT = "kafkalab.wait_until(pathlib.Path({!r}).exists, {!r}, 60)"
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="no signal that ends in order reaches others there")


@pytest.fixture
def write(monkeypatch, tmp_path):
    """Return a function that puts a notebook into the folder that is run; each cell may use two modules."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(headless, "NOTEBOOKS", folder)

    def write(name, *sources, parameters=None):
        cells = [nbformat.v4.new_code_cell("import pathlib\nimport kafkalab"), *map(nbformat.v4.new_code_cell, sources)]
        if parameters:
            cells.insert(0, nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
        notebook = nbformat.v4.new_notebook(cells=cells)
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, folder / f"{name}.ipynb")
        return folder / f"{name}.ipynb"

    return write


@pytest.fixture
def run(tmp_path, capsys):
    """Return a function that runs the notebooks and returns the exit status and what was printed."""

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.app(["run", "--build", str(tmp_path / "build"), *arguments])
        return int(end.value.code), *capsys.readouterr()

    return run


@pytest.fixture
def index(tmp_path):
    return tmp_path / "build" / "index.html"


def test_failing_notebook_is_named_with_its_cell_and_the_others_run(lab, write, run, index):
    write("00_fails", "print(1)", "1 / 0")
    write("01_takes", "print(number + 1)", parameters="number = 1")
    status, out, err = run("-p", "number", "41")
    assert status == 1
    assert err == "00_fails.ipynb failed in cell [3]: ZeroDivisionError: division by zero\n"
    assert "00_fails: failed after" in out
    assert "42" in (index.parent / "01_takes.html").read_text(encoding="utf-8")
    assert "ZeroDivisionError" in index.read_text(encoding="utf-8")
    assert lab.stack.state() == "running", "a stack that ran before goes on"


def test_dead_kernel_is_a_failure_and_the_others_run(lab, write, run, index):
    write("00_dies", "import os; os._exit(1)")
    write("01_runs", "print(1)")
    status, _, err = run()
    assert status == 1
    assert err.startswith("00_dies.ipynb failed in DeadKernelError: ")
    assert "01_runs</a>: ended well" in index.read_text(encoding="utf-8")


def test_notebooks_run_side_by_side_and_appear_in_their_order_as_they_are_ready(lab, write, run, index):
    ready = f"kafkalab.wait_until(lambda: '01_quick' in pathlib.Path({str(index)!r}).read_text(), 'its page', 60)"
    write("00_slow", WAIT.format(str(index), "the index"), ready)
    write("01_quick", "print(1)")
    status, out, err = run()
    assert (status, err) == (0, "")
    said = [line.split(" after ")[0] for line in out.splitlines()]
    assert said[:4] == ["00_slow: started", "01_quick: started", "01_quick: ended well", "00_slow: ended well"]
    assert out.splitlines()[3].endswith(" s, 2 of 2")
    text = index.read_text(encoding="utf-8")
    assert text.index("00_slow") < text.index("01_quick")


def test_notebooks_that_use_the_same_topic_do_not_meet(lab, write, run, tmp_path):
    name = 'topic = kafkalab.connect().name("met")'
    alone = f"used = pathlib.Path({str(tmp_path / 'used')!r}); used.touch(exist_ok=False)"
    for number in range(2):
        write(f"0{number}_meets", name, alone, "used.unlink()")
    status, out, _ = run()
    assert status == 0
    said = [line.partition(": ")[2].split(" after ")[0] for line in out.splitlines()]
    assert said[:4] == ["started", "ended well"] * 2  # side by side, both would start first


def test_kernel_works_in_the_folder_of_its_notebook(lab, write, run):
    here = write("00_here", "assert pathlib.Path.cwd() == pathlib.Path(folder)", parameters="folder = ''").parent
    write("01_here", "assert pathlib.Path.cwd() == pathlib.Path(folder)", parameters="folder = ''")
    before = Path.cwd()
    assert run("-p", "folder", str(here))[0] == 0
    assert Path.cwd() == before


def test_kernels_get_the_callers_files(lab, write, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ok.properties").write_text("client.id=me\n", encoding="utf-8")
    monkeypatch.setenv("KAFKA_CLIENT_PROPERTIES", "ok.properties")
    write("00_asks", "assert kafkalab.connect().client['client.id'] == 'me'")
    assert run("--build", str(tmp_path / "build"))[0] == 0


def test_outputs_are_kept_in_the_notebooks(lab, write, run):
    paths = [write("00_one", "print(40 + 2)"), write("01_fails", "print(1)", "1 / 0")]
    assert run("--in-place")[0] == 1
    kept, failed = (nbformat.read(path, 4).cells for path in paths)
    assert [cell.execution_count for cell in kept] == [1, 2]
    assert kept[1].outputs[0].text == "42\n"
    assert not any(cell.outputs for cell in failed)


@pytest.mark.parametrize(
    ("own", "given", "says"),
    [
        ("10", "1e3", "number is a whole number, such as 10"),
        ("10", "ten", "number is a whole number, such as 10"),
        ("10", "true", "number is a whole number, such as 10"),
        ("0.05", "0,05", r"number is a number, such as 0\.05"),
        ("True", "yes", "number is true or false, such as true"),
    ],
)
def test_value_of_another_type_is_told_before_anything_starts(write, own, given, says):
    write("00_takes", parameters=f"number = {own}")
    with pytest.raises(kafkalab.LabError, match=f"^-p number {given}: {says}$"):
        headless.shared_out({"number": given}, headless.chosen([]))


@pytest.mark.parametrize(
    ("own", "given", "taken"),
    [
        ("10", "7", 7),
        ("0.05", "10", 10),
        ("True", "false", False),
        ("'a'", "7", "7"),
        ("None", "text", "text"),
        ("2 * 5", "7", 7),
        ("[1]", "[2, 3]", [2, 3]),
    ],
)
def test_value_is_taken_as_the_notebooks_own(write, own, given, taken):
    path = write("00_takes", parameters=f"number = {own}")
    assert headless.shared_out({"number": given}, [path]) == {path: {"number": taken}}


def test_parameter_that_no_notebook_has(write):
    write("00_takes", parameters="number = 1")
    with pytest.raises(kafkalab.LabError, match="no chosen notebook has a parameter 'numbr'"):
        headless.shared_out({"numbr": "1"}, headless.chosen([]))


def test_unknown_notebook(write):
    for name in ("00_fails", "01_takes"):
        write(name)
    with pytest.raises(kafkalab.LabError, match="no notebook is called '99': there are 00_fails, 01_takes"):
        headless.chosen(["99"])


def test_notebooks_are_chosen_by_the_start_of_their_names(write):
    for name in ("00_fails", "01_takes"):
        write(name)
    assert [path.name for path in headless.chosen(["01", "00_f"])] == ["01_takes.ipynb", "00_fails.ipynb"]


# Processes of their own, on a stack that does not run before


@pytest.fixture
def start(write, monkeypatch, tmp_path):
    """Return a function that starts `kafkalab run` on another shared stack; whatever is left is ended."""
    monkeypatch.setenv("KAFKALAB_HOME", str(tmp_path / "home"))
    for name, port in zip(("ZOOKEEPER", "BROKER", "REGISTRY"), free_ports(3), strict=True):
        monkeypatch.setenv(f"KAFKALAB_{name}_PORT", str(port))
    started = []

    def start(*names):
        command = [
            sys.executable,
            "-c",
            RUN,
            str(headless.NOTEBOOKS),
            "run",
            "--build",
            str(tmp_path / "build"),
            *names,
        ]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        if not process.stdout.closed:  # a test that failed before it read it
            print(process.communicate()[0])
    Stack.shared().down(wipe=True)


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_leaves_nothing(write, start, tmp_path, number):
    own = "own = kafkalab.own_stack()\npathlib.Path(there).write_text(str(own.stack.folder))"
    program = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"
    places = [tmp_path / "own", tmp_path / "shares"]
    write("00_own", f"there = {str(places[0])!r}", program, own, "import time; time.sleep(600)")
    write("01_shares", "kafkalab.connect()", f"pathlib.Path({str(places[1])!r}).touch()", "while True: pass")
    for name in ("02_waits", "03_waits"):
        write(name, "import time; time.sleep(600)")
    run = start()
    kafkalab.wait_until(lambda: all(place.exists() and place.stat() for place in places), "both notebooks", 240)
    kafkalab.wait_until(places[0].read_text, "the folder of the stack", 10)
    family = psutil.Process(run.pid).children(recursive=True)
    assert sum("-Dkafkalab.server" in " ".join(process.cmdline()) for process in family) == 8
    run.send_signal(number)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 1, said
    assert "Traceback" not in said
    assert [process for process in family if process.is_running()] == []
    assert not Path(places[0].read_text()).exists()
    assert Stack.shared().state() == "stopped"


@pytest.mark.parametrize("quick", [0, 1])
def test_run_does_not_end_the_stack_of_another(write, start, tmp_path, quick):
    for number in range(2):
        there = f"kafkalab.connect(); pathlib.Path({str(tmp_path / f'there-{number}')!r}).touch()"
        write(
            f"0{number}_waits",
            there,
            WAIT.format(str(tmp_path / f"go-{number}"), "the word to go on"),
            "kafkalab.connect()",
        )
    runs = []
    for number in range(2):
        runs.append(start(f"0{number}"))
        kafkalab.wait_until((tmp_path / f"there-{number}").exists, "the notebook", 240)
    servers = Stack.shared().processes()
    for number in (quick, 1 - quick):
        assert Stack.shared().processes()[0]["pid"] == servers[0]["pid"]
        assert Stack.shared().state() == "running"
        (tmp_path / f"go-{number}").touch()
        said, _ = runs[number].communicate(timeout=60)
        assert runs[number].returncode == 0, said
    assert Stack.shared().state() == "stopped"
