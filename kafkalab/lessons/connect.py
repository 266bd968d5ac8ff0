"""Connect and change data capture: where the database of a stack is and how to log in."""

from pathlib import Path
from typing import Any

from kafkalab.embedded.servers import postgres
from kafkalab.embedded.stack import Stack


def account(stack: Stack) -> Path:
    """Return the properties file with the database's `user` and `password`."""
    return postgres.account(stack.folder)


def database(stack: Stack) -> dict[str, Any]:
    """Return what `psycopg.connect` takes to reach the stack's PostgreSQL: host, port, user and password."""
    return postgres.client(stack.folder, stack.options.ports["postgres"])
