"""The exercises: made from the solutions, and each check fails where it should. nbval runs the solutions themselves."""

import re
import tomllib
from collections import Counter
from pathlib import Path

import clients
import nbformat
import pytest
from nbclient import NotebookClient

from kafkalab.headless import NOTEBOOKS
from tools.exercises import SOLUTIONS, STUB, exercise

ANSWERS = Path(__file__).parents[1] / "wrong_answers"
REGION = re.compile(r"^### BEGIN SOLUTION\n.*?^### END SOLUTION$", re.MULTILINE | re.DOTALL)

each_exercise = pytest.mark.parametrize("solution", SOLUTIONS, ids=lambda path: path.stem)


def grade_id(cell):
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")


def answered(cell, answer):
    """Return the cell with another answer between the markers."""
    assert REGION.search(cell.source)
    return nbformat.v4.new_code_cell(REGION.sub(lambda _: answer.strip(), cell.source))


def given(solution):
    """Return the answers beside the solution: `wrong` (task, answer, says) and `right` (task, answer)."""
    return tomllib.loads((ANSWERS / f"{solution.name[:2]}.toml").read_text(encoding="utf-8"))


def checks(cells):
    return [grade_id(cell) for cell in cells if grade_id(cell).startswith("check-")]


def test_every_lesson_has_an_exercise():
    lessons = [path.name[:2] for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
    assert [path.name for path in SOLUTIONS] == [f"{number}_exercise.ipynb" for number in lessons]


def test_exercises_are_those_of_the_solutions():
    there = {path.name: path.read_text(encoding="utf-8") for path in (NOTEBOOKS / "exercises").glob("*.ipynb")}
    assert there == {path.name: exercise(path) for path in SOLUTIONS}, "run `make exercises`"


@each_exercise
def test_exercise_has_the_form_of_one(solution):
    cells = nbformat.read(solution, 4).cells
    ids = [grade_id(cell) for cell in cells if grade_id(cell)]
    tasks = len(ids) // 2
    assert 4 <= tasks <= 6
    assert ids == [f"{kind}-{number}" for number in range(1, tasks + 1) for kind in ("task", "check")]
    source = "\n".join(cell.source for cell in cells)
    assert f'Exercise(lab, "{solution.name[:2]}", tasks={tasks})' in source
    parts = re.split(r"^## Task (\d): ", source, flags=re.MULTILINE)
    assert [int(number) for number in parts[1::2]] == list(range(1, tasks + 1))
    assert all("<details><summary>Hint 1</summary>" in part for part in parts[2::2])
    assert all(cell.source.startswith("with exercise.task(") for cell in cells if grade_id(cell).startswith("check-"))


@each_exercise
def test_each_task_has_three_wrong_answers(solution):
    """One that does nothing useful, one that comes to the result by the wrong way, one that is wrong at an edge."""
    wrong = Counter(answer["task"] for answer in given(solution)["wrong"])
    few = {check: count for check in checks(nbformat.read(solution, 4).cells) if (count := wrong[int(check[6:])]) < 3}
    assert not few, "each task needs at least three wrong answers"


def execute(notebook, solution):
    """Execute a notebook where its exercise is, past errors."""
    place = {"metadata": {"path": solution.parent}}
    NotebookClient(notebook, timeout=120, iopub_timeout=60, allow_errors=True, resources=place).execute()


@each_exercise
@pytest.mark.timeout(1800)
def test_each_check_fails_on_what_is_wrong_and_passes_on_what_is_right(solution, lab):
    """For each task: the unsolved cell, the answers of the file, the solution; each time with the cells around it."""
    cells = [cell for cell in nbformat.read(solution, 4).cells if cell.cell_type == "code"]
    answers, tasks, exercise = given(solution), checks(cells), f"ex{solution.name[:2]}-"
    shares = any(f'lab.name("{exercise}' in cell.source for cell in cells)
    if shares and not any(name.startswith(exercise) for name in clients.topics(lab.client["bootstrap.servers"])):
        execute(nbformat.v4.new_notebook(cells=cells), solution)  # what an earlier run leaves behind passes no check
    first = next(i for i, cell in enumerate(cells) if "kafkalab.Exercise(" in cell.source) + 1
    ran, expected, part = cells[:first], {}, []
    for cell in cells[first:]:
        part.append(cell)
        if not grade_id(cell).startswith("check-"):
            continue
        number = int(grade_id(cell).removeprefix("check-"))
        start = f"Task {number} of {len(tasks)}: "
        tried = [
            (STUB, f"{start}(?!Your code ended)"),
            *((wrong["answer"], f"{start}.*{wrong['says']}") for wrong in answers["wrong"] if wrong["task"] == number),
            *((right["answer"], None) for right in answers.get("right", ()) if right["task"] == number),
            (None, None),
        ]
        for answer, says in tried:
            for each in part:
                replaced = answer is not None and grade_id(each).startswith("task-")
                ran.append(answered(each, answer) if replaced else nbformat.v4.new_code_cell(each.source))
            expected[len(ran) - 1] = says
        part = []
    notebook = nbformat.v4.new_notebook(cells=[*ran, *part])
    execute(notebook, solution)
    for position, says in expected.items():
        outputs = notebook.cells[position].outputs
        errors = [f"{output.ename}: {output.evalue}" for output in outputs if output.output_type == "error"]
        if says is None:
            before = [output.evalue for output in notebook.cells[position - 1].outputs if output.output_type == "error"]
            assert not errors, (errors, before, notebook.cells[position - 1].source)
        else:
            assert len(errors) == 1, f"passed, but should have said {says!r}: {notebook.cells[position - 1].source}"
            assert re.match(f"CheckError: {says}", errors[0]), errors[0]
    assert len(expected) == 2 * len(tasks) + sum(map(len, answers.values()))
