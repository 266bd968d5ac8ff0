"""Notebooks executed headless, side by side: papermill, a page for each, an index of the pages."""

import ast
import html
import json
import logging
import re
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path

import click
import nbformat
import papermill
import psutil
from filelock import FileLock, ReadWriteLock, Timeout
from jupyter_core.utils import ensure_event_loop
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError

from kafkalab import course
from kafkalab.cluster.lab import connect
from kafkalab.embedded.artifacts import cannot_write
from kafkalab.embedded.processes import GUARD
from kafkalab.embedded.stack import STOP_SECONDS, Stack
from kafkalab.errors import LabError
from kafkalab.settings import NOTEBOOKS, ClusterSettings, StackSettings

CELL_SECONDS = 300
AT_ONCE = 3  # a notebook may start three brokers of its own: more at once would need more memory than they save time
# of topics, groups and subjects on the shared cluster; and what takes servers beside it for a lesson alone
_NAMES = re.compile(r'\.name\("([^"]+)"\)|= (?:pipeline|flink)(\(\))')
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


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


def shared_out(parameters: Mapping[str, str], notebooks: Iterable[Path]) -> dict[Path, dict[str, object]]:
    """Return for each notebook the values of those parameters that it has.

    Args:
        parameters: The values as texts; JSON says which value is meant.
        notebooks: Those that will be executed.

    Raises:
        LabError: No notebook has a parameter of that name, or the value is of another type than the notebook's own.
    """
    known = {notebook: papermill.inspect_notebook(notebook) for notebook in notebooks}
    for name in parameters:
        if not any(name in own for own in known.values()):
            raise LabError(f"no chosen notebook has a parameter {name!r}: see the cell tagged parameters of each")
    return {
        notebook: {name: _value(name, text, own[name]["default"]) for name, text in parameters.items() if name in own}
        for notebook, own in known.items()
    }


def _value(name: str, text: str, default: str) -> object:
    """Return a parameter's value, of the type of the notebook's own, which is given as Python source."""
    own, value = None, text
    with suppress(ValueError, SyntaxError):  # an expression: whatever is given is taken
        own = ast.literal_eval(default)
    if isinstance(own, str):
        return text
    with suppress(ValueError):
        value = json.loads(text)
    allowed = (int, float) if type(own) is float else (type(own),)
    if type(own) in _KINDS and type(value) not in allowed:
        raise LabError(f"-p {name} {text}: {name} is {_KINDS[type(own)]}, such as {json.dumps(own)}")
    return value


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGTERM into an interrupt, as Ctrl-C is one; a second one does not disturb what the first one ends."""
    numbers = (signal.SIGINT, signal.SIGTERM)

    def interrupt(*_: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def cluster() -> Iterator[None]:
    """Have a cluster for the notebooks: as `connect`; a stack that had to be started ends with the last of its runs.

    Raises:
        LabError: As `connect`.
    """
    if ClusterSettings.read().broker_url:
        connect()
        yield
        return
    home = StackSettings.read().home
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(home, "KAFKALAB_HOME", error) from None
    gate, runs = FileLock(home / ".run.lock"), ReadWriteLock(home / ".runs.lock")  # a run that ends the stack reads

    def last() -> bool:
        with suppress(Timeout), runs.write_lock(blocking=False):
            return True
        return False

    with gate:  # who comes while another run ends the stack starts it again
        ours = Stack.shared().state() == "stopped" or not last()
        if ours:
            runs.acquire_read()
    try:
        connect()
        yield
    finally:
        if ours:
            with gate:
                runs.release()
                if last():
                    Stack.shared().down()


def execute_all(
    parameters: Mapping[Path, Mapping[str, object]], build: Path, *, in_place: bool = False
) -> dict[Path, str | None]:
    """Execute notebooks side by side, but not those that use topics, groups or subjects of the same name.

    An interrupt ends the kernels, and with them the stacks of their own and all else that they started.

    Args:
        parameters: The notebooks, and the parameters of each.
        build: The folder for the executed notebooks, a page of each, and the index of the pages, which grows.
        in_place: Keep the outputs in the notebooks themselves too.

    Returns:
        For each notebook None, or where and how it failed.
    """
    build.mkdir(parents=True, exist_ok=True)
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it would log is in the failure
    names = {
        notebook: set(_NAMES.findall(notebook.read_text(encoding="utf-8").replace('\\"', '"')))
        for notebook in parameters
    }
    results: dict[Path, str | None] = {}
    waiting, running = list(parameters), dict[Future[str | None], tuple[Path, float]]()
    others = set(psutil.Process().children())
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            while waiting or running:
                for notebook in list(waiting):
                    met = [other for other, _ in running.values() if names[other] & names[notebook]]
                    if len(running) < AT_ONCE and not met:
                        click.echo(f"{notebook.stem}: started")
                        waiting.remove(notebook)
                        work = pool.submit(execute, notebook, build, parameters[notebook])
                        running[work] = notebook, time.monotonic()
                for work in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                    notebook, start = running.pop(work)
                    results[notebook] = failure = work.result()
                    write_page(build / notebook.name)
                    write_index(build, {path: results[path] for path in parameters if path in results})
                    if in_place and not failure:
                        keep_outputs(build / notebook.name, notebook)
                    seconds, how = time.monotonic() - start, "failed" if failure else "ended well"
                    click.echo(f"{notebook.stem}: {how} after {seconds:.0f} s, {len(results)} of {len(parameters)}")
                    if failure:
                        click.echo(f"{notebook.name} failed in {failure}", err=True)
        finally:
            while not all(work.done() for work in running):
                _end(set(psutil.Process().children()) - others)
                wait(running, timeout=1)
    return results


def _end(kernels: Iterable[psutil.Process]) -> None:
    """End kernels and all that they have started; the guards of their own stacks forget these."""
    guards: list[psutil.Process] = []
    rest: list[psutil.Process] = []
    for kernel in kernels:
        with suppress(psutil.Error):
            for process in (*kernel.children(recursive=True), kernel):
                with suppress(psutil.Error):
                    (guards if str(GUARD) in process.cmdline() else rest).append(process)
    for process in rest:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(guards, timeout=STOP_SECONDS)


def execute(notebook: Path, build: Path, parameters: Mapping[str, object]) -> str | None:
    """Execute one notebook and leave it in a folder.

    Returns:
        None, or where and how the notebook failed.
    """
    executed, failure = build.absolute() / notebook.name, None
    try:
        papermill.execute_notebook(
            notebook, executed, dict(parameters), kernel_name="python3", execution_timeout=CELL_SECONDS,
            resources={"metadata": {"path": str(notebook.parent)}},  # papermill's cwd would be that of all threads
            progress_bar=False,
            extra_arguments=["--log-level=ERROR"],  # the kernel's own remarks are not about the lesson
        )  # fmt: skip
    except PapermillExecutionError as error:
        failure = f"cell [{error.exec_count}]: {error.ename}: {error.evalue.splitlines()[0] if error.evalue else ''}"
    except Exception as error:  # noqa: BLE001 - a dead kernel or a time-out: the other notebooks still run
        failure = f"{type(error).__name__}: {str(error).splitlines()[0]}" if str(error) else type(error).__name__
    finally:
        ensure_event_loop().close()  # this thread's, which nbclient leaves open
    return failure


def write_page(executed: Path) -> None:
    """Write the page of a notebook that was executed, as far as it came, beside it."""
    if executed.exists():
        page, _ = HTMLExporter().from_filename(str(executed))
        executed.with_suffix(".html").write_text(page, encoding="utf-8")


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
    whole = notebook.with_name(f".{notebook.name}.new")  # an interrupt leaves the notebook as it was
    nbformat.write(source, whole)
    whole.replace(notebook)
