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
    environment = jgo.build("+".join(lock["request"]["kafka"]))
    jars = {path.name: path for path in environment.all_jars}
    lock["kafka"] = {}
    for found in environment.lockfile.dependencies:
        coordinate = f"{found.groupId}:{found.artifactId}:{found.version}:{found.classifier or ''}:{found.packaging}"
        lock["kafka"][coordinate] = entry(jars[file_name(coordinate)])
    group, artifact, release, classifier, packaging = lock["request"]["registry"].split(":")
    found = MavenContext().project(group, artifact).at_version(release).artifact(classifier, packaging)
    lock["registry"] = {lock["request"]["registry"]: entry(found.resolve())}
    LOCK.write_text(tomli_w.dumps(lock), encoding="utf-8")


if __name__ == "__main__":
    renew()
