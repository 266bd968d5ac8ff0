"""PostgreSQL, a database whose changes Kafka Connect can read from its log."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import javaproperties
import psutil

from kafkalab.embedded import HOST, artifacts, processes
from kafkalab.embedded.files import write_private, write_properties
from kafkalab.embedded.servers.server import Server
from kafkalab.errors import LabError

USER = "postgres"
_SECONDS = 60  # that the making of an empty database may take


class Postgres(Server):
    """The PostgreSQL server of a stack (PostgreSQL documentation, "Server Configuration").

    It refuses to run as root. Where this Python is root, it runs as `nobody`, in a folder of its own that this account
    can reach, with a copy of the program; a link in the stack's folder leads there.
    """

    kind: ClassVar = "postgres"
    files: ClassVar = artifacts.POSTGRES
    user: ClassVar = "nobody" if sys.platform != "win32" and os.geteuid() == 0 else None

    @property
    def mark(self) -> str:
        """The argument by which a process is known as this server of this stack."""
        return f"--kafkalab.server={self.layout.folder / self.name}"

    @property
    def environment(self) -> dict[str, str]:
        """Name a locale: on macOS it does not start without one."""
        return {"LC_ALL": "C"}

    @property
    def _link(self) -> Path:
        return self.layout.folder / "data" / self.name

    @property
    def _data(self) -> Path:
        return self._link.resolve() / "data"

    @property
    def _program(self) -> Path:
        return (self._link.resolve() / "program" if self.user else artifacts.unpacked(self.files)) / "bin"

    def configure(self) -> None:
        """Make an empty database with a random password, unless there is one.

        Raises:
            LabError: The database was made by another kind of account, or is gone, or cannot be made.
        """
        unfinished = self._link.resolve() / "password"  # it goes when `initdb` has ended well
        if self._link.exists() and bool(self.user) != self._link.is_symlink():
            raise LabError(f"{'an ordinary account' if self.user else 'root'} made this database: take that account")
        if self._link.is_symlink() and not self._link.exists():
            raise LabError(
                f"the database is gone ({self._link.readlink()}): `kafkalab down --wipe` forgets the rest of the stack"
            )
        if (self._data / "PG_VERSION").exists() and not unfinished.exists():
            self._forget_stranger()
            return
        self.forget()
        if self.user:
            goes = Path(tempfile.gettempdir()).resolve() in self.layout.folder.parents  # with the stack
            lasting = Path("/var/tmp")  # noqa: S108 - kept when the machine starts anew (FHS); the name is random
            where = lasting if lasting.is_dir() and not goes else None
            folder = Path(tempfile.mkdtemp(prefix="kafkalab-postgres-", dir=where))
            self._link.symlink_to(folder)
            left = shutil.ignore_patterns("*.a", "include", "pgxs")
            shutil.copytree(artifacts.unpacked(self.files), folder / "program", symlinks=True, ignore=left)
        else:
            self._link.mkdir(mode=0o700)
        password = secrets.token_urlsafe(16)
        write_properties(account(self.layout.folder), {"user": USER, "password": password})
        given = write_private(self._link.resolve() / "password", password)
        if self.user:
            self._give_away(given.parent)
        self._run_initdb(given)
        given.unlink()

    def command(self) -> list[str]:
        """Return the command line."""
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": "",
            "wal_level": "logical",
            "max_wal_senders": 8,
            "max_replication_slots": 8,
            "max_connections": 50,
            "shared_buffers": "16MB",
            "dynamic_shared_memory_type": "mmap" if sys.platform != "win32" else "windows",  # files among the data
            "timezone": "UTC",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self._program / "postgres"), "-D", str(self._data), self.mark, *options]

    def serves(self) -> bool:
        """Ask for a connection of a user's."""
        import psycopg  # noqa: PLC0415 - only stacks with a database need it

        try:
            psycopg.connect(**client(self.layout.folder, self.port), dbname="postgres", connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def end(self, process: psutil.Process, *, at_once: bool) -> None:
        """Ask for a fast shutdown, which ends sessions, or an immediate one, after which it recovers as from a crash.

        A killed server would leave a piece of shared memory and, for a moment, its children (PostgreSQL documentation,
        "Shutting Down the Server").
        """
        if sys.platform == "win32":
            super().end(process, at_once=at_once)
        else:
            process.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)

    def forget(self) -> None:
        """Remove the folder that root has made for it."""
        if self._link.is_symlink():
            shutil.rmtree(self._link.resolve(), ignore_errors=True)
            self._link.unlink()
        shutil.rmtree(self._link, ignore_errors=True)

    def _forget_stranger(self) -> None:
        """Remove the note of a server that ended with the machine, if its process id is now somebody else's.

        PostgreSQL itself asks only whether such a process exists.
        """
        note = self._data / "postmaster.pid"
        with suppress(OSError, ValueError, IndexError, psutil.Error):
            if not psutil.Process(int(note.read_text(encoding="utf-8").split()[0])).name().startswith("postgres"):
                note.unlink()

    def _give_away(self, folder: Path) -> None:
        import pwd  # noqa: PLC0415 - not on Windows

        owner = pwd.getpwnam(str(self.user))
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)

    def _run_initdb(self, password: Path) -> None:
        # without the account's own locale: the order of texts is the same everywhere
        told = [f"--username={USER}", "--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C"]
        try:
            ended = subprocess.run(
                [str(self._program / "initdb"), "-D", str(self._data), "--no-sync", *told],
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
                cwd=self._link.resolve(),
                env={**processes.environment(), **self.environment},
                **processes.as_user(self.user),
            )
        except OSError as error:
            raise LabError(
                f"{self._program} cannot be run as {self.user or 'this account'} ({error.strerror}): set TMPDIR to a "
                "folder that all accounts can enter and run programs in"
            ) from None
        if ended.returncode:
            lines = [line for line in (ended.stderr or ended.stdout).splitlines() if line.strip()]
            raise LabError(f"{self.name} could not make its database: {' | '.join(lines[-2:])}")


def account(folder: Path) -> Path:
    """Return the properties file with the database's `user` and `password`, in the folder of its stack."""
    return folder / "config" / "postgres.properties"


def client(folder: Path, port: int) -> dict[str, Any]:
    """Return what `psycopg.connect` takes, without the name of a database, from the folder of its stack."""
    with account(folder).open(encoding="utf-8") as file:
        # all of it is named, since libpq takes what is missing from variables such as PGSSLMODE
        return {"host": HOST, "port": port, "sslmode": "disable", **javaproperties.load(file)}
