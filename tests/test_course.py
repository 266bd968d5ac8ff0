"""What a learner gets who installs the wheel, without the checkout, and what `kafkalab lab` makes of a folder."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import nbformat
import psutil
import pytest
import requests
import websocket

import kafkalab
from kafkalab import course
from kafkalab.errors import LabError
from kafkalab.settings import NOTEBOOKS, SCHEMAS

ROOT = Path(__file__).parents[1]
LESSON = "05_avro_messages.ipynb"
AS_ROOT = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []


# What is in the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return the wheel, made from the source distribution alone."""
    dist = tmp_path_factory.mktemp("dist")
    uv("build", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(dist), str(ROOT))
    (made,) = dist.glob("*.whl")
    return made


def uv(*arguments):
    command = [sys.executable, "-m", "uv", *arguments, "--offline", "--no-cache", "--no-config", "--quiet"]
    subprocess.run(command, check=True)


def test_wheel_has_what_a_learner_needs_and_nothing_else(wheel):
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    lessons = [f"kafkalab/notebooks/{path.name}" for path in NOTEBOOKS.glob("*.ipynb")]
    exercises = [f"kafkalab/notebooks/exercises/{path.name}" for path in (NOTEBOOKS / "exercises").glob("*.ipynb")]
    schemas = [f"kafkalab/schemas/{path.name}" for path in SCHEMAS.glob("*.avsc")]
    helper = [path.relative_to(ROOT).as_posix() for path in (ROOT / "kafkalab").rglob("*.py")]
    others = [
        "kafkalab/notebooks/glossary.md",
        "kafkalab/embedded/artifacts.toml",
        "kafkalab/jupyter/labconfig/default_setting_overrides.json",
    ]
    assert sorted(names) == sorted([*lessons, *exercises, *schemas, *helper, *others])


# The wheel without the checkout


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return a function that runs a command in an environment with the wheel and the locked packages.

    The packages are those of this environment, by a path in a .pth file. Python reads no further .pth files in such a
    folder, so the one that names the checkout has no effect there.
    """
    folder = tmp_path_factory.mktemp("environment")
    paths = sysconfig.get_paths("venv", {"base": str(folder), "platbase": str(folder)})
    uv("venv", "--no-project", "--clear", "--python", sys.executable, str(folder))
    uv("pip", "install", "--no-deps", "--no-index", "--python", str(folder), str(wheel))
    here = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (Path(paths["purelib"]) / "packages.pth").write_text("\n".join(here), encoding="utf-8")

    shared = Path(sys.prefix, "share", "jupyter")  # JupyterLab's own files are not in site-packages
    places = [place for place in os.environ["PATH"].split(os.pathsep) if not shutil.which("kafkalab", path=place)]
    environment = {
        **{name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}},
        "PATH": os.pathsep.join(places),
        "JUPYTER_PATH": str(shared),
        "JUPYTERLAB_DIR": str(shared / "lab"),
        "JUPYTER_CONFIG_PATH": str(Path(sys.prefix, "etc", "jupyter")),
        **{f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")},
    }

    def start(*command, cwd, run=subprocess.run, **options):
        program = shutil.which(command[0], path=paths["scripts"])
        return run([program, *command[1:]], cwd=cwd, env=environment, text=True, **options)

    return start


@pytest.fixture
def folder(tmp_path):
    """Return a course folder."""
    course.put_into(tmp_path / "course")
    return tmp_path / "course"


def test_checkout_is_absent(installed, tmp_path):
    asked = "import kafkalab, sys; print(kafkalab.__file__, kafkalab.SCHEMAS, *sys.path, sep='\\n')"
    ran = installed("python", "-c", asked, cwd=tmp_path, capture_output=True, check=True)
    places = [Path(line) for line in ran.stdout.splitlines() if line]
    assert not [place for place in places if place == ROOT or (ROOT in place.parents and ".venv" not in place.parts)]


def test_lesson_runs_alone_in_any_folder(lab, installed, tmp_path):
    shutil.copy(NOTEBOOKS / course.FIRST, tmp_path)
    command = ("python", "-m", "papermill", course.FIRST, "out.ipynb", "--no-progress-bar", "-k", "python3")
    ran = installed(*command, cwd=tmp_path, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]


def test_run_takes_the_notebooks_of_the_course_folder(lab, installed, folder):
    """The exercise is not solved, so its cells run up to its first check, which says what is missing."""
    lesson = nbformat.read(folder / LESSON, 4)
    lesson.cells = [nbformat.v4.new_code_cell("print('mine', 6 * 7)")]
    nbformat.write(lesson, folder / LESSON)
    ran = installed("kafkalab", "run", "05", "exercises/00", cwd=folder, capture_output=True, check=False)
    assert ran.returncode == 1
    assert re.findall(r"(\S+) failed in cell \[\d+\]: (CheckError: Task \d)", ran.stderr) == [
        ("00_exercise.ipynb", "CheckError: Task 1")
    ]
    assert "mine 42" in (folder / "build" / f"{Path(LESSON).stem}.html").read_text(encoding="utf-8")


def test_outputs_are_kept_in_a_course_folder_and_not_in_the_package(lab, installed, folder, tmp_path):
    refused = installed("kafkalab", "run", "--in-place", "00", cwd=tmp_path, capture_output=True)
    assert refused.returncode == 1
    says = "an installed kafkalab keeps no outputs in its own notebooks: go into the folder that `kafkalab lab` made"
    assert refused.stderr == f"Error: {says}\n"
    assert not (tmp_path / "build").exists()
    lesson = nbformat.read(folder / LESSON, 4)
    lesson.cells = [nbformat.v4.new_code_cell("print(6 * 7)")]
    nbformat.write(lesson, folder / LESSON)
    assert installed("kafkalab", "run", "--in-place", "05", cwd=folder, capture_output=True).returncode == 0
    assert nbformat.read(folder / LESSON, 4).cells[0].outputs[0].text == "42\n"


def test_programs_run(lab, installed, folder):
    for command in ("count-up", "multiples"):
        sent = installed("kafkalab", command, "--messages", "3", "--interval", "0", cwd=folder, capture_output=True)
        assert sent.returncode == 0, sent.stderr
    reader = {"KAFKA_CONSUMER_TIMEOUT_MS": "5000", "IN_GROUP": "course"}
    program = f"import os, sys; os.environ |= {reader}; from kafkalab.cli import app; sys.exit(app(['print']))"
    printed = installed("python", "-c", program, cwd=folder, capture_output=True)
    assert printed.returncode == 0, printed.stderr
    assert int(re.search(r"(\d+) decoded, 0 not", printed.stderr)[1]) >= 6
    assert installed("kafkalab", "doctor", cwd=folder, capture_output=True).returncode == 0


# JupyterLab


@pytest.fixture
def jupyter(installed, tmp_path):
    """Return a `kafkalab lab` that runs at a terminal, the file of what it prints, and its address with the token."""
    pty = pytest.importorskip("pty", reason="a program cannot press Ctrl-C in another's terminal there")
    ours, terminal = pty.openpty()
    log = tmp_path / "log"
    with log.open("w") as out:
        command = ("kafkalab", "lab", "--no-browser", *AS_ROOT)
        options = {"stdin": terminal, "stdout": out, "stderr": out}
        process = installed(*command, cwd=tmp_path, run=subprocess.Popen, **options)
    address = re.compile(r"http://127\.0\.0\.1\S+")
    try:
        kafkalab.wait_until(lambda: address.search(log.read_text()), "JupyterLab's address", seconds=120)
        yield process, log, address.search(log.read_text())[0]
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(ours)
        os.close(terminal)


def test_lab_opens_lesson_00_asks_no_question_and_ends_by_ctrl_c(jupyter):
    process, log, address = jupyter
    folder = log.with_name("kafkalab-course")
    base, page, token = re.fullmatch(r"(http://[^/]+)/(.+)\?token=(\w+)", address).groups()
    assert page == f"lab/tree/{course.FIRST}"
    with requests.Session() as browser:
        browser.trust_env = False
        browser.headers["Authorization"] = f"token {token}"
        assert browser.get(f"{base}/{page}", timeout=30).status_code == 200
        listed = browser.get(f"{base}/api/contents", timeout=30).json()["content"]
        assert {entry["name"] for entry in listed} == {path.name for path in folder.glob("[!.]*")}
        setting = browser.get(f"{base}/lab/api/settings/@jupyterlab/apputils-extension:notification", timeout=30)
        assert setting.json()["schema"]["properties"]["fetchNews"]["default"] == "false"
        kernel = browser.post(f"{base}/api/kernels", json={"name": "python3"}, timeout=30)
        assert kernel.status_code == 201
        terminal = browser.post(f"{base}/api/terminals", timeout=30).json()["name"]
    socket = f"{base.replace('http', 'ws')}/terminals/websocket/{terminal}"
    stream = websocket.create_connection(socket, header={"Authorization": f"token {token}"}, timeout=30)
    stream.send(json.dumps(["stdin", "kafkalab lab --help\r"]))
    said = bytearray()

    def helped():
        said.extend(stream.recv_data_frame(control_frame=True)[1].data)  # a ping counts, so that the wait stays bounded
        return b"Put the course into a folder" in said

    kafkalab.wait_until(helped, "the command's help in the terminal", seconds=60)
    stream.close()

    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 2, "a kernel and a terminal"
    process.send_signal(signal.SIGINT)
    kafkalab.wait_until(
        lambda: "Shut down this Jupyter server" in log.read_text(), "JupyterLab to ask back", seconds=30
    )
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert not psutil.wait_procs(family, timeout=20)[1]


# The second start


@pytest.fixture
def versions(tmp_path, monkeypatch):
    """Return a function that makes another version of the course the package's: texts of notebooks by their names."""

    def become(**lessons):
        package = tmp_path / "package"
        shutil.rmtree(package, ignore_errors=True)
        (package / "exercises").mkdir(parents=True)
        (package / "glossary.md").write_text("# Glossary\n")
        for name, text in lessons.items():
            write(package / f"{name}.ipynb", text)
        write(package / "exercises" / "00_exercise.ipynb", "1 + 1")

    monkeypatch.setattr(course, "NOTEBOOKS", tmp_path / "package")
    become(a="a = 1", b="b = 1", c="c = 1")
    return become


def write(path, text, *, outputs=()):
    cell = nbformat.v4.new_code_cell(text, outputs=list(outputs))
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)


def texts(folder):
    """Return the text of each notebook in a folder by its name."""
    return {path.stem: nbformat.read(path, 4).cells[0].source for path in sorted(folder.glob("*.ipynb"))}


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_second_start_changes_nothing(versions, tmp_path):
    assert course.put_into(tmp_path / "mine") == []
    before = contents(tmp_path / "mine")
    assert {path.relative_to(tmp_path / "mine").as_posix() for path in before} == {
        "a.ipynb", "b.ipynb", "c.ipynb", "glossary.md", "exercises/00_exercise.ipynb", course.MANIFEST,
    }  # fmt: skip
    write(tmp_path / "mine" / "a.ipynb", "a = 'mine'")
    write(tmp_path / "mine" / "own.ipynb", "own = 1")
    before = contents(tmp_path / "mine")
    assert course.put_into(tmp_path / "mine") == []
    assert contents(tmp_path / "mine") == before


def test_newer_version_renews_what_was_not_changed_and_comes_beside_what_was(versions, tmp_path):
    mine = tmp_path / "mine"
    course.put_into(mine)
    write(mine / "a.ipynb", "a = 'mine'")
    write(mine / "b.ipynb", "b = 1", outputs=[nbformat.v4.new_output("stream", text="only run")])
    write(mine / "e.ipynb", "e = 'mine, and a name that the next version has too'")
    versions(a="a = 2", b="b = 2", c="c = 1", d="d = 2", e="e = 2")
    assert course.put_into(mine) == [
        "added or renewed: b.ipynb, d.ipynb",
        "a.ipynb has your changes and stays; what this version has in its place is a.new.ipynb",
        "e.ipynb has your changes and stays; what this version has in its place is e.new.ipynb",
    ]
    expected = {
        "a": "a = 'mine'", "a.new": "a = 2", "b": "b = 2", "c": "c = 1", "d": "d = 2",
        "e": "e = 'mine, and a name that the next version has too'", "e.new": "e = 2",
    }  # fmt: skip
    assert texts(mine) == expected
    assert course.put_into(mine) == []
    assert texts(mine) == expected


def test_what_came_beside_is_renewed_too_unless_it_was_changed(versions, tmp_path):
    mine = tmp_path / "mine"
    course.put_into(mine)
    write(mine / "a.ipynb", "a = 'mine'")
    write(mine / "b.ipynb", "b = 'mine'")
    versions(a="a = 2", b="b = 2", c="c = 1")
    course.put_into(mine)
    write(mine / "a.new.ipynb", "a = 'mine too'")
    versions(a="a = 3", b="b = 3", c="c = 1")
    assert len(course.put_into(mine)) == 2
    assert texts(mine) == {
        "a": "a = 'mine'", "a.new": "a = 'mine too'", "a.new2": "a = 3",
        "b": "b = 'mine'", "b.new": "b = 3", "c": "c = 1",
    }  # fmt: skip


def test_deleted_lesson_comes_back_as_it_was(versions, tmp_path):
    course.put_into(tmp_path / "mine")
    (tmp_path / "mine" / "a.ipynb").unlink()
    assert course.put_into(tmp_path / "mine") == ["added or renewed: a.ipynb"]
    assert texts(tmp_path / "mine")["a"] == "a = 1"


@pytest.mark.parametrize("manifest", ["", "{", "[]", "[1]", '"a"'])
def test_without_a_readable_manifest_nothing_is_overwritten(versions, tmp_path, manifest):
    mine = tmp_path / "mine"
    course.put_into(mine)
    (mine / course.MANIFEST).write_text(manifest)
    (mine / "b.ipynb").unlink()
    versions(a="a = 2", b="b = 2", c="c = 1")
    course.put_into(mine)
    assert texts(mine) == {"a": "a = 1", "a.new": "a = 2", "b": "b = 2", "c": "c = 1"}


# Where it opens


def test_folder_that_is_opened(versions, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert course.default_folder() == tmp_path / "package", "a checkout's own notebooks"
    monkeypatch.setattr(course, "_PACKAGE", tmp_path)
    assert course.default_folder() == Path("kafkalab-course")
    course.put_into(tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine" / "exercises")
    assert course.default_folder() == tmp_path / "mine"


# Bad folders


def test_folder_with_other_things(versions, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("the only copy")
    for folder in (other, other / "thesis.txt"):
        with pytest.raises(LabError, match="is not a course and not empty: name a new folder"):
            course.put_into(folder)
    assert list(contents(other).values()) == [b"the only copy"]


def test_start_that_was_killed_is_begun_again(versions, tmp_path):
    (tmp_path / "mine" / f"{course._BESIDE}x").mkdir(parents=True)
    course.put_into(tmp_path / "mine")
    assert list(texts(tmp_path / "mine")) == ["a", "b", "c"]


def test_folder_in_a_file(versions, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match=r"cannot write the course to .*: free some space, or name another folder"):
        course.put_into(tmp_path / "file" / "mine")


NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]
ALLOWED = (
    shutil.which("unshare") and subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode == 0
)


@pytest.mark.skipif(not ALLOWED, reason="needs a namespace in which this account may mount")
@pytest.mark.parametrize(
    ("options", "reason"), [("size=800k", "No space left on device"), ("ro", "Read-only file system")]
)
@pytest.mark.parametrize("name", ["disk", "disk/course"])
def test_full_or_protected_disk(tmp_path, options, reason, name):
    (tmp_path / "disk").mkdir()
    command = f"{sys.executable} -m kafkalab lab {name} --no-browser"
    script = f"mount -t tmpfs -o {options} none disk && {{ {command}; find disk -mindepth 1; }}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [*NAMESPACE, "sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.stderr == (
        f"Error: cannot write the course to {tmp_path / name} ({reason}): "
        "free some space, or name another folder, as in `kafkalab lab FOLDER`\n"
    )
    assert ran.stdout == "", "nothing is left half"
