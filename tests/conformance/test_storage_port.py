"""Storage resources: keys, atomic writes, ranges, and trees, in memory and in a directory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from airavata_scheduler.adapters.memory.storage import MemoryStorage
from airavata_scheduler.adapters.storage.posix import PosixStorage
from airavata_scheduler.platform.ports.storage import Storage, StoredObject


@pytest.fixture(params=["memory", "posix"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return MemoryStorage() if request.param == "memory" else PosixStorage(tmp_path)


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def broken() -> AsyncIterator[bytes]:
    yield b"half"
    message = "the source ended"
    raise OSError(message)


async def listed(storage: Storage, prefix: str) -> list[str]:
    return [item.key async for item in storage.list(prefix)]


async def test_what_is_written_is_read_whole_in_part_and_in_chunks(storage: Storage) -> None:
    assert await storage.write("a/b", b"0123456789") == StoredObject("a/b", 10)
    assert await storage.read("a/b") == b"0123456789"
    assert await storage.read("a/b", 3, 4) == b"3456"
    assert await storage.read("a/b", 8, 100) == b"89"
    assert await storage.read("a/b", 20) == b""
    assert await storage.size("a/b") == 10
    large = bytes(3 * 1024 * 1024 + 5)
    await storage.write("large", large)
    pieces = [len(piece) async for piece in storage.stream("large", 1)]
    assert sum(pieces) == len(large) - 1
    assert max(pieces) <= 1024 * 1024
    assert b"".join([piece async for piece in storage.stream("a/b", 2, 3)]) == b"234"


async def test_what_is_not_there_is_said_so(storage: Storage) -> None:
    assert await storage.size("a") is None
    with pytest.raises(FileNotFoundError):
        await storage.read("a")
    assert await listed(storage, "a") == []
    assert await storage.delete_tree("a") == 0


async def test_a_write_replaces_as_a_whole_or_not_at_all(storage: Storage) -> None:
    await storage.write("k", chunks(b"one", b"two"))
    assert await storage.read("k") == b"onetwo"
    with pytest.raises(OSError, match="the source ended"):
        await storage.write("k", broken())
    assert await storage.read("k") == b"onetwo"
    assert await listed(storage, "") == ["k"]
    await storage.write("k", b"")
    assert await storage.size("k") == 0


async def test_trees_are_listed_in_order_and_deleted_whole(storage: Storage) -> None:
    for key in ("e/s/10", "e/s/9", "e/a", "e2/x", "e/s.txt"):
        await storage.write(key, b"1")
    assert await listed(storage, "e") == ["e/a", "e/s/10", "e/s/9", "e/s.txt"]
    assert await listed(storage, "e/a") == ["e/a"]
    assert await storage.delete_tree("e") == 4
    assert await listed(storage, "") == ["e2/x"]


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a\0b"])
async def test_keys_that_lead_elsewhere_are_refused(storage: Storage, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        await storage.write(key, b"")
    with pytest.raises(ValueError, match="not a key"):
        await storage.read(key)
    with pytest.raises(ValueError, match="not a key"):
        await storage.delete_tree(key)
