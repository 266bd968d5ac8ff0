"""The lessons as a series; pytest --nbval itself runs each of them once more, in order, on the embedded stack."""

import os
import re
import subprocess
import sys
from itertools import pairwise

import clients
import nbformat
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.schema_registry import SchemaRegistryClient

import kafkalab
from kafkalab.classroom.reports import TOPIC as REPORTS
from kafkalab.cluster.topics import NOTES
from kafkalab.headless import NOTEBOOKS

LESSONS = sorted(NOTEBOOKS.glob("*.ipynb"))
SECRET = re.compile(r"(?<![\w-])(?=[\w-]*[A-Z])(?=[\w-]*[a-z])(?=[\w-]*\d)[\w-]{32}(?![\w-])")  # such as a password
MACHINE = re.compile(r"/(?:root|home|Users|work|tmp)/|C:\\")


def leaves_the_mode_open(path):
    """Return whether a lesson uses the cluster of the environment, or a stack without naming its mode."""
    code = "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")
    return re.search(r"kafkalab\.connect\(|= (?:pipeline|flink)\(|own_stack\((?!.*mode=)", code) is not None


EITHER_MODE = [path for path in LESSONS if leaves_the_mode_open(path)]
LONGEST = ("15", "16", "02", "11", "14", "06", "13")  # the longest first
BY_LENGTH = sorted(EITHER_MODE, key=lambda path: (*LONGEST, path.name[:2]).index(path.name[:2]))
PARTS = [sorted(BY_LENGTH[number::8] + BY_LENGTH[7 - number :: 8]) for number in range(4)]  # of about the same work
KEPT = {"00": {"series.count", "series.count-value"}, "06": {"series.lesson06.log"}}  # what lessons leave, by number


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", PARTS, ids=lambda part: "-".join(path.name[:2] for path in reversed(part)))
def test_backwards_without_zookeeper_on_a_secured_cluster_that_only_the_environment_names(part, tmp_path):
    """Strict nbval as a learner, in an order that nobody had in mind, each lesson after its exercise.

    Outputs differ from the stored ones, which are of the mode with ZooKeeper, only in the learner's name and its width.
    """
    (tmp_path / "alike").write_text("regex: series\\.\nreplace: \nregex: [ ]+\nreplace:  \n", encoding="utf-8")
    command = [
        sys.executable, "-m", "pytest", "--nbval", "-qx", "-p", "no:cacheprovider", "--confcutdir=notebooks",
        "-p", "retries", "--reruns=1", "--rerun-show-tracebacks",
    ]  # fmt: skip
    notebooks = [
        path
        for lesson in reversed(part)
        for path in (NOTEBOOKS / "solutions" / f"{lesson.name[:2]}_exercise.ipynb", lesson)
    ]
    plugins = [str(NOTEBOOKS.parent / "tests"), os.environ.get("PYTHONPATH")]
    with kafkalab.own_stack(mode="kraft", secure=True) as theirs:
        environment = {
            **os.environ,
            **clients.named(theirs),
            "KAFKA_CLIENT_PROPERTIES": str(theirs.stack.client_files / "client.properties"),
            "KAFKA_SCHEMA_REGISTRY_PROPERTIES": str(theirs.stack.client_files / "schema-registry.properties"),
            "KAFKALAB_LEARNER": "series",
            "KAFKALAB_MODE": "kraft",
            "PYTHONPATH": os.pathsep.join(filter(None, plugins)),
        }
        ran = subprocess.run(
            [*command, f"--nbval-sanitize-with={tmp_path / 'alike'}", *map(str, notebooks)],
            env=environment,
            cwd=NOTEBOOKS.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        left = names(theirs)
    assert ran.returncode == 0, ran.stdout[-5000:]
    assert {name for name in left if not name.startswith("series.")} <= {NOTES, REPORTS, f"{REPORTS}-value"}
    assert {NOTES, REPORTS}.union(*(KEPT.get(lesson.name[:2], ()) for lesson in part)) <= left


def names(lab):
    """Return the names of all topics, subjects and groups."""
    admin = AdminClient(lab.stack.admin)
    with SchemaRegistryClient(lab.registry) as registry:
        subjects = registry.get_subjects()
    groups = [group.group_id for group in admin.list_consumer_groups().result().valid]
    topics = [name for name in admin.list_topics(timeout=20).topics if not name.startswith("__")]
    return {*topics, *subjects, *groups}


def test_every_lesson_of_either_mode_is_in_one_part():
    assert {path.name[:2] for path in LESSONS} - {path.name[:2] for path in EITHER_MODE} == {"01", "12", "17"}
    assert sorted(path for part in PARTS for path in part) == EITHER_MODE


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_lesson_has_the_form_of_a_lesson(path):
    cells = nbformat.read(path, 4).cells
    title = cells[0].source
    assert title.startswith("# ")
    for part in ("What you will do", "What you will learn", "What you need", "Time"):
        assert f"**{part}.**" in title
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert "parameters" in code[1].metadata.get("tags", [])
    assert all(a.cell_type == "markdown" or b.cell_type == "markdown" for a, b in pairwise(cells))
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert "## Clean up" in prose
    assert "## Key points" in prose
    assert not re.search(r"^###", prose, re.MULTILINE)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_stored_outputs_are_whole_and_tell_nothing_of_the_machine(path):
    code = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for output in (output for cell in code for output in cell.outputs):
        assert output.output_type != "error"
        assert output.get("name") != "stderr"
        texts = [output.get("text", ""), *(v for k, v in output.get("data", {}).items() if k.startswith("text/"))]
        assert not MACHINE.search("\n".join(texts))
        assert not SECRET.search("\n".join(texts))


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    prose = "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown")
    glossary = (NOTEBOOKS / "glossary.md").read_text(encoding="utf-8")
    terms = {heading.replace(" ", "-") for heading in re.findall(r"^## (.+)$", glossary, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)#\s]*)(?:#[^)]*)?\)", prose):
        assert not target or target.startswith("http") or (NOTEBOOKS / target).exists(), target
    for anchor in re.findall(r"\]\(glossary\.md#([^)]+)\)", prose):
        assert anchor in terms, anchor
