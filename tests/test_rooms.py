"""The layout is the map: imports run one way, and what belongs to one lesson has the lesson's name."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kafkalab"
DOWNWARDS = (  # a room imports only what stands after it
    "__main__", "cli", "headless", "course", "__init__", "classroom", "lessons", "programs", "doctor", "cluster",
    "embedded", "figures", "settings", "client_files", "waiting", "errors",
)  # fmt: skip
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    """Return the names of the project's modules that a file imports, inside of functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole path"
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path):
    names = [name.split(".") for name in imported(path)]
    assert not {name[0] for name in names} & {"tests", "tools"}
    rooms = {name[1] for name in names if name[0] == "kafkalab" and len(name) > 1 and name[1] in DOWNWARDS}
    above = [other for other in rooms - {room(path)} if DOWNWARDS.index(other) < DOWNWARDS.index(room(path))]
    assert not above, f"{room(path)} stands below {above}"


def test_servers_know_nothing_of_clusters_and_lessons():
    for path in (PACKAGE / "embedded").rglob("*.py"):
        assert not [name for name in imported(path) if name.startswith(("kafkalab.cluster", "kafkalab.lessons"))], path


def test_there_is_a_room_for_everything():
    assert {room(path) for path in MODULES} == set(DOWNWARDS)


def test_what_a_lesson_needs_has_its_name():
    lessons = {path.stem[3:] for path in (ROOT / "notebooks").glob("*.ipynb")}
    modules = {path.stem for path in (PACKAGE / "lessons").glob("*.py")} - {"__init__"}
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "lessons").glob("test_*.py")}
    assert modules <= lessons
    assert modules <= tests <= lessons
