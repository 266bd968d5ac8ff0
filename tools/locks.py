"""Renews the lock of the servers' files: part of `make lock`."""

import hashlib
import tomllib
from pathlib import Path

import jgo
import tomli_w
from jgo.maven import MavenContext

from kafkalab.embedded.artifacts import LOCK, file_name


def entry(path: Path) -> dict[str, object]:
    """Return what the lock says of a file: its size in bytes and its checksum."""
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def renew() -> None:
    """Resolve the requested coordinates again and write artifacts.toml."""
    lock = tomllib.loads(LOCK.read_text(encoding="utf-8"))
    for name, wanted in lock["request"].items():
        lock[name] = files(wanted)
    LOCK.write_text(tomli_w.dumps(lock), encoding="utf-8")


def files(wanted: str | list[str] | dict[str, list[str]]) -> dict[str, object]:
    """Return the entries of one request.

    Args:
        wanted: One file; files that are all there is; coordinates with all that they need; or such coordinates, `of`,
            `without` what stands elsewhere on the class path.
    """
    match wanted:
        case str():
            return single(wanted)
        case {"of": coordinates, "without": left}:
            return {c: e for c, e in resolved(coordinates).items() if ":".join(c.split(":")[:2]) not in left}
        case [first, *_] if first.count(":") == 4:
            return {coordinate: found for file in wanted for coordinate, found in single(file).items()}
    return resolved(wanted)


def resolved(coordinates: list[str]) -> dict[str, object]:
    """Return the entries of jars and of all that they need."""
    environment = jgo.build("+".join(coordinates))
    jars = {path.name: path for path in environment.all_jars}
    needed = environment.lockfile.dependencies
    found = [f"{d.groupId}:{d.artifactId}:{d.version}:{d.classifier or ''}:{d.packaging}" for d in needed]
    return {coordinate: entry(jars[file_name(coordinate)]) for coordinate in found}


def single(coordinate: str) -> dict[str, object]:
    """Return the entry of one file, named by classifier and packaging."""
    group, artifact, release, classifier, packaging = coordinate.split(":")
    found = MavenContext().project(group, artifact).at_version(release).artifact(classifier, packaging)
    return {coordinate: entry(found.resolve())}


if __name__ == "__main__":
    renew()
