"""A real PostgreSQL server for tests: Debian's package `postgresql`, with a data directory that is thrown away."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

_INSTALL = "PostgreSQL's server programs are not here: apt-get install postgresql"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "log_min_messages": "warning",
}


def programs() -> Path:
    """The folder with initdb and postgres; Debian keeps them off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    other = shutil.which("initdb")
    assert other, _INSTALL
    return Path(other).resolve().parent


class Server:
    """Started on a port that was free a moment ago; `url` names one of its databases."""

    def __init__(self, directory: Path, *, durable: bool = False) -> None:
        self.directory = directory
        self._programs = programs()
        self._user = _unprivileged()
        self._process: subprocess.Popen[bytes] | None = None
        self._schemas = 0
        self._durable = durable
        if self._user is not None:
            shutil.chown(directory, self._user)
        self._run("initdb", "-D", str(directory / "data"), "-U", "ledger", "-A", "trust", "-E", "UTF8", "--no-sync")

    def start(self, port: int = 0) -> None:
        """Raises AssertionError with its log where it does not come up."""
        self.port = port or _free_port()
        options = {**_SETTINGS, "port": str(self.port), "fsync": "on" if self._durable else "off"}
        flags = [flag for name, value in options.items() for flag in ("-c", f"{name}={value}")]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", str(self.directory / "data"), *flags],
                stdout=log,
                stderr=log,
                user=self._user,
                cwd="/",
            )
        deadline = time.monotonic() + 60.0
        while time.monotonic() < deadline:
            try:
                psycopg.connect(self.url_of("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.directory / "log").read_text()
                time.sleep(0.05)
        raise AssertionError((self.directory / "log").read_text())

    def schema(self) -> str:
        """The URL of a new, empty one: a tenth of what a database costs."""
        self._schemas += 1
        name = f"s{self._schemas}"
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")  # type: ignore[arg-type]
        return f"{self.url_of('postgres')}?options=-csearch_path%3D{name}"

    def url_of(self, name: str) -> str:
        return f"postgresql://ledger@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(3)  # SIGQUIT: at once, as after a crash
            self._process.wait(30)
            self._process = None

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            check=False,
            capture_output=True,
            text=True,
            user=self._user,
            cwd="/",
        )
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def server(*, durable: bool = False, within: str | None = None) -> Iterator[Server]:
    """In memory where that is possible and no place is named: what syncing promises is PostgreSQL's."""
    place = within or ("/dev/shm" if not durable and os.access("/dev/shm", os.W_OK) else None)
    with tempfile.TemporaryDirectory(dir=place, prefix="modelcanary-pg-") as directory:
        made = Server(Path(directory), durable=durable)
        try:
            made.start()
            yield made
        finally:
            made.stop()


def _unprivileged() -> str | None:
    """postgres refuses to run as root."""
    if os.geteuid() != 0:
        return None
    known = {user.pw_name for user in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
