"""A teacher who grades with nbgrader takes the solutions as they are."""

import os
import shutil
import subprocess
import sys
import sysconfig

import nbformat
import pytest
from nbgrader.api import Gradebook

from tools.exercises import SOLUTIONS

CONFIG = """
c = get_config()
c.CourseDirectory.course_id = "kafkalab"
c.Execute.timeout, c.Execute.iopub_timeout = 180, 60
"""
POINTS = {"check-1": 1, "check-2": 2, "check-3": 2, "check-4": 2, "check-5": 3}


def nbgrader(course, *arguments):
    """Run nbgrader itself in a course's folder and return what it logged."""
    programs = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])  # nbgrader calls alembic by name
    ran = subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments], cwd=course,
        env={**os.environ, "PATH": programs, "PYTHONWARNINGS": "ignore"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stderr


def hand_in(course, learner, solved=(), edited=()):
    """Hand in the released notebook with the source's answers in some task cells, and some check cells edited."""
    released = nbformat.read(course / "release" / "exercise" / "00_exercise.ipynb", 4)
    source = {cell.id: cell for cell in nbformat.read(SOLUTIONS[0], 4).cells}
    for cell in released.cells:
        if cell.id in solved:
            cell.source = source[cell.id].source
        if cell.id in edited:
            cell.source = "print('Task 2 of 5: passed')"
    folder = course / "submitted" / learner / "exercise"
    folder.mkdir(parents=True)
    nbformat.write(released, folder / "00_exercise.ipynb")


@pytest.mark.timeout(900)
def test_submissions_are_graded_on_the_real_stack(lab, tmp_path):
    (tmp_path / "source" / "exercise").mkdir(parents=True)
    shutil.copy(SOLUTIONS[0], tmp_path / "source" / "exercise" / "00_exercise.ipynb")
    (tmp_path / "nbgrader_config.py").write_text(CONFIG, "utf-8")
    nbgrader(tmp_path, "generate_assignment", "exercise")
    hand_in(tmp_path, "ann", solved=["task-1", "task-2", "task-3", "task-4", "task-5"])
    hand_in(tmp_path, "ben", solved=["task-1", "task-3"])
    hand_in(tmp_path, "cat", solved=["task-1"], edited=["check-2"])
    said = nbgrader(tmp_path, "autograde", "exercise")
    assert "Attribute 'checksum' for cell check-2 has changed!" in said

    with Gradebook(f"sqlite:///{tmp_path / 'gradebook.db'}") as book:
        graded = {
            learner: {
                grade.cell.name: grade.score for grade in book.find_submission("exercise", learner).notebooks[0].grades
            }
            for learner in ("ann", "ben", "cat")
        }
        assert {
            cell.name: cell.max_score for cell in book.find_notebook("00_exercise", "exercise").grade_cells
        } == POINTS
    assert graded["ann"] == POINTS
    assert graded["ben"] == {**dict.fromkeys(POINTS, 0), "check-1": 1, "check-3": 2}
    assert graded["cat"] == {**dict.fromkeys(POINTS, 0), "check-1": 1}
