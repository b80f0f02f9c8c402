"""A directory as a storage resource: one that every worker of the resource sees under the same path."""

from __future__ import annotations

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path, PurePosixPath

from airavata_scheduler.platform.ports.storage import StoredObject

_CHUNK_BYTES = 1024 * 1024
_LIST_PAGE = 1000
#: What is being removed has such a name meanwhile.
_ASIDE = ".deleted-"


class PosixStorage:
    """`Storage` below ``root``. File calls run in threads, never on the event loop."""

    kind = "posix"

    def __init__(self, root: Path | str) -> None:
        self._root = Path(root)

    def _path(self, key: str) -> Path:
        parts = PurePosixPath(key).parts
        if not key or key.startswith("/") or ".." in parts or "\0" in key or "//" in key or "." in key.split("/"):
            message = f"{key!r} is not a key: it must be relative, without `..` and without empty parts"
            raise ValueError(message)
        return self._root.joinpath(*parts)

    async def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes from ``offset``; fewer than ``length`` at the end of the object."""
        return await asyncio.to_thread(_read, self._path(key), offset, length)

    async def stream(self, key: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The same in chunks."""
        left = length
        while left is None or left > 0:
            chunk = await self.read(key, offset, _CHUNK_BYTES if left is None else min(_CHUNK_BYTES, left))
            if not chunk:
                return
            yield chunk
            offset += len(chunk)
            left = None if left is None else left - len(chunk)

    async def write(self, key: str, data: bytes | AsyncIterator[bytes]) -> StoredObject:
        """Written beside, synced, and renamed, so that nobody ever reads half of it."""
        path = self._path(key)
        beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        try:
            file = await asyncio.to_thread(beside.open, "wb")
            try:
                async for chunk in _chunks(data):
                    await asyncio.to_thread(file.write, chunk)
                size_bytes = file.tell()
                await asyncio.to_thread(_sync, file.fileno())
            finally:
                await asyncio.to_thread(file.close)
            await asyncio.to_thread(beside.replace, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        return StoredObject(key, size_bytes)

    async def size(self, key: str) -> int | None:
        """None unless it is a file."""
        return await asyncio.to_thread(_size, self._path(key))

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        """Depth first, by name; read in pages so that a million files need no memory."""
        walk = _walk(self._path(prefix) if prefix else self._root, prefix)
        while page := await asyncio.to_thread(_take, walk, _LIST_PAGE):
            for item in page:
                yield item

    async def delete_tree(self, prefix: str) -> int:
        """Moved out of sight first, so it is gone at once, however large."""
        path = self._path(prefix)
        count = 0
        async for _ in self.list(prefix):
            count += 1
        await asyncio.to_thread(_remove, path, self._root)
        return count

    def local_path(self, key: str) -> str | None:
        """The path itself."""
        return str(self._path(key))


async def _chunks(data: bytes | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if isinstance(data, bytes):
        yield data
        return
    async for chunk in data:
        yield chunk


def _read(path: Path, offset: int, length: int | None) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read() if length is None else file.read(length)


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except (FileNotFoundError, NotADirectoryError):
        return None


def _walk(path: Path, key: str) -> Iterator[StoredObject]:
    if path.is_file() and not path.is_symlink():
        yield StoredObject(key, path.stat().st_size)
        return
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        below = f"{key}/{entry.name}" if key else entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), below)
        elif entry.is_file(follow_symlinks=False):
            yield StoredObject(below, entry.stat().st_size)


def _take(walk: Iterator[StoredObject], most: int) -> list[StoredObject]:
    return [item for item, _ in zip(walk, range(most), strict=False)]


def _remove(path: Path, root: Path) -> None:
    try:
        path.rename(root / f"{_ASIDE}{uuid.uuid4().hex}")
    except FileNotFoundError:
        return
    for left in root.glob(f"{_ASIDE}*"):  # those of an interrupted removal as well
        if left.is_dir():
            shutil.rmtree(left, onerror=_unless_gone)
        else:
            left.unlink(missing_ok=True)


def _unless_gone(_function: object, _path: str, found: tuple[type[BaseException], BaseException, object]) -> None:
    """Two removals at a time take along what the other has set aside."""
    if not isinstance(found[1], FileNotFoundError):
        raise found[1]
