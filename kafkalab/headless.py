"""Notebooks executed headless: papermill, a page for each, an index of the pages."""

import html
from collections.abc import Iterable, Mapping
from pathlib import Path

import nbformat
import papermill
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError

from kafkalab import course
from kafkalab.errors import LabError
from kafkalab.settings import NOTEBOOKS

CELL_SECONDS = 300


def chosen(names: Iterable[str]) -> list[Path]:
    """Return the notebooks whose file names start so, such as `00` or `solutions/00`, or all lessons.

    They are those of the course folder that the current folder is in, else the package's.

    Raises:
        LabError: A name fits no notebook.
    """
    notebooks = course.around() or NOTEBOOKS
    everything = sorted(notebooks.glob("*.ipynb"))
    paths = []
    for name in names:
        start = Path(name)
        folder = notebooks / start.parent.name if start.parent.name != NOTEBOOKS.name else notebooks
        fitting = [path for path in sorted(folder.glob("*.ipynb")) if path.name.startswith(start.name)]
        if not fitting:
            raise LabError(f"no notebook is called {name!r}: there are {', '.join(path.stem for path in everything)}")
        paths += fitting
    return paths or everything


def shared_out(parameters: Mapping[str, object], notebooks: Iterable[Path]) -> dict[Path, dict[str, object]]:
    """Return for each notebook those parameters that it has.

    Raises:
        LabError: No notebook has a parameter of that name.
    """
    known = {notebook: papermill.inspect_notebook(notebook).keys() for notebook in notebooks}
    for name in parameters:
        if not any(name in names for names in known.values()):
            raise LabError(f"no chosen notebook has a parameter {name!r}: see the cell tagged parameters of each")
    return {notebook: {n: v for n, v in parameters.items() if n in names} for notebook, names in known.items()}


def execute(notebook: Path, build: Path, parameters: Mapping[str, object]) -> str | None:
    """Execute one notebook under a progress bar and leave it and its page in a folder.

    Returns:
        None, or where and how the notebook failed.
    """
    build.mkdir(parents=True, exist_ok=True)
    failure = None
    try:
        papermill.execute_notebook(
            notebook, build / notebook.name, dict(parameters),
            kernel_name="python3", cwd=notebook.parent, execution_timeout=CELL_SECONDS,
            extra_arguments=["--log-level=ERROR"],  # the kernel's own remarks are not about the lesson
        )  # fmt: skip
    except PapermillExecutionError as error:
        failure = f"cell [{error.exec_count}]: {error.ename}: {error.evalue.splitlines()[0] if error.evalue else ''}"
    except Exception as error:  # noqa: BLE001 - a dead kernel or a time-out: the next notebook still runs
        failure = f"{type(error).__name__}: {str(error).splitlines()[0]}" if str(error) else type(error).__name__
    if (build / notebook.name).exists():
        page, _ = HTMLExporter().from_filename(str(build / notebook.name))
        (build / f"{notebook.stem}.html").write_text(page, encoding="utf-8")
    return failure


def write_index(build: Path, results: Mapping[Path, str | None]) -> Path:
    """Write the page that links to those of the notebooks that were executed."""
    rows = [
        f'<li><a href="{notebook.stem}.html">{notebook.stem}</a>: {html.escape(failure or "ended well")}</li>'
        for notebook, failure in results.items()
    ]
    page = f'<!doctype html><meta charset="utf-8"><title>kafkalab</title><h1>kafkalab</h1><ol>{"".join(rows)}</ol>'
    (build / "index.html").write_text(page, encoding="utf-8")
    return build / "index.html"


def keep_outputs(executed: Path, notebook: Path) -> None:
    """Put the outputs of an executed notebook into its source, without what another run would change."""
    done, source = nbformat.read(executed, 4), nbformat.read(notebook, 4)
    for cell, ran in zip(source.cells, done.cells, strict=True):
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
    nbformat.write(source, notebook)
