"""Files that only their owner can read, written whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

import javaproperties


def write_private(path: Path, text: str) -> Path:
    """Write a file that only its owner can read, whole or not at all, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text(text, encoding="utf-8")
    return new.replace(path)


def write_properties(path: Path, properties: Mapping[str, object]) -> Path:
    """Write a private file in Java's properties form and return its path."""
    text = javaproperties.dumps({key: str(value) for key, value in properties.items()}, timestamp=False)
    return write_private(path, text)
