"""Makes what learners open out of the solutions, with nbgrader's own steps: `make exercises`."""

from pathlib import Path

import nbformat
from nbgrader.preprocessors import ClearOutput, ClearSolutions, LockCells

from kafkalab.headless import NOTEBOOKS

SOLUTIONS = sorted((NOTEBOOKS / "solutions").glob("*.ipynb"))
STUB = "# your answer"


def exercise(solution: Path) -> str:
    """Return the notebook without answers and outputs."""
    notebook = nbformat.read(solution, 4)
    for step in (ClearSolutions(code_stub={"python": STUB}), ClearOutput(), LockCells()):
        notebook, _ = step.preprocess(notebook, {})
    return nbformat.writes(notebook) + "\n"


if __name__ == "__main__":
    folder = NOTEBOOKS / "exercises"
    folder.mkdir(exist_ok=True)
    for path in SOLUTIONS:
        (folder / path.name).write_text(exercise(path), encoding="utf-8")
