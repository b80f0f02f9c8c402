"""The embedded PostgreSQL, really started: first start, adoption, kill, fallback of paths, stop."""

from __future__ import annotations

import os
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from airavata_scheduler.launcher import processes
from airavata_scheduler.launcher.postgres import EmbeddedPostgres, PostgresError
from airavata_scheduler.launcher.secrets import ensure_secrets
from airavata_scheduler.settings import Paths


@pytest.fixture
def paths() -> Iterator[Paths]:
    # A short path: where the socket of a longer one goes has a test of its own.
    with tempfile.TemporaryDirectory(prefix="airavata-") as directory:
        made = Paths(Path(directory) / "home")
        ensure_secrets(made)
        yield made
        EmbeddedPostgres(made).stop(limit_s=3)


def _fetch(dsn: str, query: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def test_a_first_start_makes_a_private_server(paths: Paths) -> None:
    modes = {directory: directory.stat().st_mode for directory in (paths.home, *paths.home.parents)}
    dsn = EmbeddedPostgres(paths).start()
    assert _fetch(dsn, "SHOW server_version_num") >= "180000"  # type: ignore[operator]
    shown = {
        name: _fetch(dsn, f"SHOW {name}")
        for name in ("data_checksums", "server_encoding", "listen_addresses", "synchronous_commit", "fsync", "jit")
    }
    assert shown == {
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "listen_addresses": "",
        "synchronous_commit": "on",
        "fsync": "on",
        "jit": "off",
    }
    assert {directory: directory.stat().st_mode for directory in modes} == modes, "no mode of any parent changes"
    assert stat.S_IMODE((paths.run / "postgres").stat().st_mode) == 0o700


def test_a_wrong_password_is_refused(paths: Paths) -> None:
    dsn = EmbeddedPostgres(paths).start()
    password = paths.database_password.read_text()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(dsn.replace(password, "wrong"))


def test_a_running_server_is_adopted(paths: Paths) -> None:
    server = EmbeddedPostgres(paths)
    server.start()
    process = server.process()
    other = EmbeddedPostgres(paths)
    other.start()
    assert process is not None
    assert other.process() == process


def test_what_was_committed_survives_kill_9_with_a_client_connected(paths: Paths) -> None:
    server = EmbeddedPostgres(paths)
    dsn = server.start()
    with psycopg.connect(dsn) as client:
        client.execute("CREATE TABLE kept (x int)")
        for round_number in range(3):
            client_now = psycopg.connect(dsn, autocommit=True) if round_number else client
            client_now.execute("INSERT INTO kept VALUES (1)")
            client_now.commit()
            process = server.process()
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
            assert server.start() == dsn
            assert server.process() != process
            assert _fetch(dsn, "SELECT count(*) FROM kept") == round_number + 1


def test_a_pid_file_that_names_another_live_process_is_stale(paths: Paths) -> None:
    server = EmbeddedPostgres(paths)
    server.start()
    text = (server.data_dir / "postmaster.pid").read_text()
    process = server.process()
    assert process is not None
    process.kill()
    assert processes.wait_until(lambda: not process.alive(), 10)
    (server.data_dir / "postmaster.pid").write_text(text.replace(str(process.pid), str(os.getpid()), 1))
    assert server.process() is None
    assert not server.ready()
    server.start()
    assert server.ready()


def test_an_interrupted_first_start_leaves_nothing_in_the_way(paths: Paths) -> None:
    paths.postgres.mkdir()
    (paths.postgres / "half").write_text("done")
    assert _fetch(EmbeddedPostgres(paths).start(), "SELECT 1") == 1
    assert not (paths.postgres / "half").exists()


def test_a_long_home_works(tmp_path: Path) -> None:
    paths = Paths(tmp_path / ("long" * 25) / "home")
    ensure_secrets(paths)
    server = EmbeddedPostgres(paths)
    try:
        assert _fetch(server.start(), "SELECT 1") == 1
    finally:
        server.stop(limit_s=3)
        (paths.short / "postgres").rmdir()
        paths.short.rmdir()


def test_stop_ends_every_process_and_is_idempotent(paths: Paths) -> None:
    server = EmbeddedPostgres(paths)
    with psycopg.connect(server.start()):
        process = server.process()
        assert process is not None
        children = [processes.identify(pid) for pid in processes.descendants(process.pid)]
        server.stop(limit_s=5)
    assert server.process() is None
    assert len(children) > 3
    assert not any(child is not None and child.alive() for child in children)
    server.stop()


def test_a_server_that_cannot_start_says_why(paths: Paths) -> None:
    server = EmbeddedPostgres(paths)
    server.start()
    server.stop(limit_s=5)
    (server.data_dir / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(PostgresError, match="no_such_setting"):
        server.start()


def test_a_server_that_still_recovers_is_left_alone(paths: Paths) -> None:
    server = EmbeddedPostgres(paths)
    server.start()
    process = server.process()
    pid_file = server.data_dir / "postmaster.pid"
    ready = pid_file.read_text()
    pid_file.write_text(ready.replace("ready   ", "starting"))
    with pytest.raises(PostgresError, match="did not accept connections within"):
        server.start(limit_s=0.2)
    assert process is not None
    assert process.alive()
    pid_file.write_text(ready)
    server.start()
    assert server.process() == process
