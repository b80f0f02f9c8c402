"""Outputs as a tar stream: nothing is written to a disk, and no output is ever held as a whole."""

from __future__ import annotations

import tarfile
from collections.abc import AsyncIterator, Callable

from airavata_scheduler.platform.domain.views import OutputView
from airavata_scheduler.platform.ports.queries import Queries
from airavata_scheduler.platform.ports.storage import Storage

_BLOCK = 512
_PAGE = 1000


class ChangedWhileReadError(OSError):
    """An object got lost, or shorter while it was sent; the stream breaks off, so that nobody takes it for complete."""


def _header(name: str, size_bytes: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size_bytes, 0o644
    return info.tobuf(tarfile.PAX_FORMAT)


async def _member(storage: Storage, key: str, name: str, size_bytes: int) -> AsyncIterator[bytes]:
    yield _header(name, size_bytes)
    sent = 0
    async for chunk in storage.stream(key, 0, size_bytes):
        sent += len(chunk)
        yield chunk
    if sent != size_bytes:
        raise ChangedWhileReadError(f"{key} has {sent} bytes, expected were {size_bytes}")
    yield bytes(-size_bytes % _BLOCK)


async def objects(storage: Storage, key: str) -> list[tuple[str, int]]:
    """Key and size of an output that is a file, or of everything in one that is a directory."""
    size_bytes = await storage.size(key)
    if size_bytes is not None:
        return [(key, size_bytes)]
    return [(found.key, found.size_bytes) async for found in storage.list(key)]


async def directory(storage: Storage, key: str) -> AsyncIterator[bytes]:
    """The tar of one directory output; member names are relative to it."""
    for found, size_bytes in await objects(storage, key):
        async for chunk in _member(storage, found, found.removeprefix(f"{key}/"), size_bytes):
            yield chunk
    yield bytes(2 * _BLOCK)


def _place(experiment: str, output: OutputView, key: str) -> str:
    """``<step>/<index>/<relative path>``: the key without the experiment and the number of the attempt."""
    prefix = f"{output.step}/{output.index}/"
    tail = key.removeprefix(f"{experiment}/{prefix}")
    relative = tail.partition("/")[2] if tail != key and "/" in tail else key.rpartition("/")[2]
    return prefix + relative


async def published(
    queries: Queries, experiment: str, step: str | None, storage_of: Callable[[str], Storage]
) -> AsyncIterator[bytes]:
    """The tar of all published outputs of an experiment, by step and index."""
    cursor: str | None = None
    while True:
        page = await queries.outputs(experiment, step, _PAGE, cursor)
        for output in page.items:
            storage = storage_of(output.storage)
            found = await objects(storage, output.key)
            if not found and output.size_bytes:
                raise ChangedWhileReadError(f"{output.key} is not there any more")
            for key, size_bytes in found:
                async for chunk in _member(storage, key, _place(experiment, output, key), size_bytes):
                    yield chunk
        cursor = page.next
        if cursor is None:
            break
    yield bytes(2 * _BLOCK)
