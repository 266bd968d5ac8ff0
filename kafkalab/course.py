"""The course in a folder of the learner's own, and JupyterLab on it."""

import hashlib
import json
import os
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from kafkalab.errors import LabError
from kafkalab.settings import NOTEBOOKS

FIRST = "00_start_here.ipynb"
MANIFEST = ".kafkalab-course.json"  # what was put into the folder: the fingerprint of each file by its name
_BESIDE = ".kafkalab-new-"
_FILES = ("*.ipynb", "*.md", "exercises/*.ipynb")
_PACKAGE = Path(__file__).parent


def default_folder() -> Path:
    """Return the folder to open if none is named: the course around the current folder, a checkout's own, a new one."""
    return around() or (NOTEBOOKS if in_checkout() else Path("kafkalab-course"))


def in_checkout() -> bool:
    """Return whether this kafkalab is a checkout's, whose notebooks are there to be changed; else it is installed."""
    return not NOTEBOOKS.is_relative_to(_PACKAGE)


def around() -> Path | None:
    """Return the course folder that the current folder is, or is in."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / MANIFEST).exists()), None)


def put_into(folder: Path) -> list[str]:
    """Put into a folder what it lacks of the course, and renew what is older and was not changed there.

    Where this version has a newer one of a file that was changed there, it comes beside that. Running a notebook is not
    a change: only the text of its cells counts.

    Returns:
        A sentence on what is new, and one on each file that came beside another.

    Raises:
        LabError: The folder holds something else, or cannot be written; it is then as it was.
    """
    made = False
    try:
        if folder.exists() and not _is_ours(folder):
            raise LabError(f"{folder} is not a course and not empty: name a new folder, as in `kafkalab lab my-course`")
        known = _known(folder)
        copies, now, sentences = _changes(folder, known)
        if not copies and now == known:
            return []
        if not folder.exists():
            folder.mkdir(parents=True)
            made = True
        with TemporaryDirectory(prefix=_BESIDE, dir=folder) as beside:  # a full disk is noticed in here
            for name, source in copies.items():
                (Path(beside) / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(source, Path(beside) / name)
            (Path(beside) / MANIFEST).write_text(json.dumps(now, indent=1), encoding="utf-8")
            (folder / MANIFEST).touch()  # killed after this, the next start goes on
            for name in (*copies, MANIFEST):
                (folder / name).parent.mkdir(exist_ok=True)
                (Path(beside) / name).replace(folder / name)
    except OSError as error:
        if made:
            shutil.rmtree(folder, ignore_errors=True)
        raise LabError(
            f"cannot write the course to {folder} ({error.strerror}): "
            "free some space, or name another folder, as in `kafkalab lab FOLDER`"
        ) from None
    return sentences


def _is_ours(folder: Path) -> bool:
    """Return whether a folder is a course or empty, but for what a start that was killed has left."""
    if (folder / MANIFEST).exists():
        return True
    return folder.is_dir() and all(path.name.startswith(_BESIDE) for path in folder.iterdir())


def _changes(folder: Path, known: dict[str, str]) -> tuple[dict[str, Path], dict[str, str], list[str]]:
    """Return what to copy by its name in the folder, what is known of the folder then, and what to say."""
    copies, now, new, beside = {}, dict(known), [], []
    for source in (path for pattern in _FILES for path in sorted(NOTEBOOKS.glob(pattern))):
        name = source.relative_to(NOTEBOOKS).as_posix()
        ours, theirs, before = _fingerprint(source), _found(folder / name), known.get(name)
        now[name] = ours
        if theirs in {None, before} and theirs != ours:
            copies[name] = source
            new.append(name)
        elif ours not in {before, theirs}:
            other = next(o for o in _names(name) if _found(folder / o) in {None, known.get(o), ours})
            copies[other], now[other] = source, ours
            beside.append(f"{name} has your changes and stays; what this version has in its place is {other}")
    return copies, now, [*([f"added or renewed: {', '.join(new)}"] if new and known else []), *beside]


def _names(name: str) -> Iterator[str]:
    """Return names beside a file's: lesson.new.ipynb, lesson.new2.ipynb and so on."""
    start, dot, suffix = name.rpartition(".")
    return (f"{start}.new{number if number > 1 else ''}{dot}{suffix}" for number in count(1))


def _known(folder: Path) -> dict[str, str]:
    """Return the content of a folder's manifest; where it tells nothing, every file may have been changed."""
    with suppress(FileNotFoundError, ValueError, TypeError):
        return dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    return {}


def _found(path: Path) -> str | None:
    """Return the fingerprint of a file, None where there is none."""
    return _fingerprint(path) if path.exists() else None


def _fingerprint(path: Path) -> str:
    """Return what tells a file from another version of it."""
    content = path.read_bytes()
    with suppress(ValueError, KeyError, TypeError):  # anything but a notebook counts as it is
        cells = json.loads(content)["cells"]
        content = json.dumps([(cell["cell_type"], "".join(cell["source"])) for cell in cells]).encode()
    return hashlib.sha256(content).hexdigest()


def open_lab(folder: Path, *, browser: bool, allow_root: bool) -> None:
    """Run JupyterLab on a folder until it is stopped, with lesson 00 open.

    Its terminals and kernels find the commands of this environment, and the kernel `python3` is this environment's. It
    does not ask whether it may fetch news. What its user has set there holds.
    """
    from jupyterlab.labapp import LabApp  # noqa: PLC0415 - it takes a second to import

    os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    configured = filter(None, [os.environ.get("JUPYTER_CONFIG_PATH"), str(_PACKAGE / "jupyter")])
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(configured)  # it has labconfig/default_setting_overrides.json
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    options = [f"--ServerApp.root_dir={folder}", f"--LabApp.default_url=/lab/tree/{FIRST}"]
    options += ["--Application.log_level=WARN"]  # the address is told all the same
    if os.name == "posix":  # a shell that is named is no login shell, which might set PATH anew
        options.append(f"--ServerApp.terminado_settings=shell_command={os.environ.get('SHELL') or 'sh'}")
    options += ["--no-browser"] * (not browser) + ["--allow-root"] * allow_root
    LabApp.launch_instance(options)
