"""PostgreSQL on a disk of its own that fills up: it refuses, or ends at once, and goes on when there is room."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from airavata_scheduler.adapters.persistence.driver import copy_text
from airavata_scheduler.adapters.persistence.engine import create_engine, transaction
from airavata_scheduler.launcher.postgres import EmbeddedPostgres, PostgresError
from airavata_scheduler.launcher.secrets import ensure_secrets
from airavata_scheduler.platform.domain.errors import UnavailableError
from airavata_scheduler.settings import Paths

pytestmark = pytest.mark.optional("mounting a file system needs root and may not be permitted")

_INSERT = sa.text("INSERT INTO kept SELECT g, gen_random_uuid()::text FROM generate_series(1, :n) AS g")


class SmallDisk:
    """A file system that can be filled to the last byte, and emptied again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filling = path / "filling"

    def fill(self) -> None:
        with self._filling.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(1 << 16)):
                pass

    def make_room(self) -> None:
        self._filling.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", str(path)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    yield SmallDisk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def server(disk: SmallDisk) -> Iterator[EmbeddedPostgres]:
    paths = Paths(disk.path / "home")
    ensure_secrets(paths)
    made = EmbeddedPostgres(paths)
    made.start()
    yield made
    disk.make_room()
    made.stop(limit_s=3)


async def _write(engine: AsyncEngine, n: int, *, switch: bool = False) -> None:
    async def work(connection: AsyncConnection) -> None:
        await connection.execute(_INSERT, {"n": n})
        if switch:  # to a new file of the log, which needs 16 MB
            await connection.execute(sa.text("SELECT pg_switch_wal()"))

    await transaction(engine, work, limit_s=0.5)


async def _write_until_refused(engine: AsyncEngine) -> int:
    """How many writes went through."""
    for written in range(50):
        try:
            await _write(engine, 1, switch=True)
        except UnavailableError:
            return written
    pytest.fail("the log found room")


async def _count(engine: AsyncEngine) -> int:
    async def work(connection: AsyncConnection) -> int:
        return int((await connection.execute(sa.text("SELECT count(*) FROM kept"))).scalar_one())

    return await transaction(engine, work, limit_s=10.0)


async def _table(server: EmbeddedPostgres) -> AsyncEngine:
    engine = create_engine(server.dsn)
    async with engine.begin() as connection:
        await connection.execute(sa.text("CREATE TABLE kept (x int, text text)"))
    await _write(engine, 1000)
    return engine


async def test_a_table_that_finds_no_room_is_named_and_goes_on(server: EmbeddedPostgres, disk: SmallDisk) -> None:
    engine = await _table(server)
    disk.fill()
    with pytest.raises(UnavailableError, match="no room on its disk"):
        await _write(engine, 100_000)
    assert await _count(engine) == 1000
    disk.make_room()
    await _write(engine, 100_000)
    assert await _count(engine) == 101_000
    await engine.dispose()


async def test_a_copy_that_finds_no_room_is_named_and_goes_on(server: EmbeddedPostgres, disk: SmallDisk) -> None:
    """As reports are written: the driver raises its own errors there."""
    engine = await _table(server)

    async def copy(connection: AsyncConnection) -> None:
        await copy_text(connection, "kept", "x, text", (f"{i}\t{i:040}\n" for i in range(100_000)))

    disk.fill()
    with pytest.raises(UnavailableError, match="no room on its disk"):
        await transaction(engine, copy, limit_s=0.5)
    disk.make_room()
    await transaction(engine, copy, limit_s=5.0)
    assert await _count(engine) == 101_000
    await engine.dispose()


async def test_a_log_that_finds_no_room_ends_the_server_and_loses_nothing(
    server: EmbeddedPostgres, disk: SmallDisk
) -> None:
    engine = await _table(server)
    disk.fill()
    written = 1000 + await _write_until_refused(engine)
    with contextlib.suppress(PostgresError):  # what the supervisor does, again and again
        server.start(limit_s=5.0)
    disk.make_room()
    server.start()
    assert await _count(engine) >= written
    await _write(engine, 1)
    await engine.dispose()
