"""A storage resource in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

from airavata_scheduler.platform.ports.storage import StoredObject

_CHUNK_BYTES = 1024 * 1024


class MemoryStorage:
    """`Storage` in a dictionary: key -> bytes."""

    kind = "memory"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    async def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes from ``offset``; fewer than ``length`` at the end of the object."""
        data = self.objects.get(_checked(key))
        if data is None:
            raise FileNotFoundError(key)
        return data[offset:] if length is None else data[offset : offset + length]

    async def stream(self, key: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The same in chunks."""
        data = await self.read(key, offset, length)
        for start in range(0, len(data), _CHUNK_BYTES):
            yield data[start : start + _CHUNK_BYTES]

    async def write(self, key: str, data: bytes | AsyncIterator[bytes]) -> StoredObject:
        """Nothing is there before everything is."""
        _checked(key)
        whole = data if isinstance(data, bytes) else b"".join([chunk async for chunk in data])
        self.objects[key] = whole
        return StoredObject(key, len(whole))

    async def size(self, key: str) -> int | None:
        """None unless there is such an object."""
        data = self.objects.get(_checked(key))
        return None if data is None else len(data)

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        """By the parts of the key, so what is below one prefix stays together."""
        for key in sorted((key for key in self.objects if _below(key, prefix)), key=lambda key: key.split("/")):
            yield StoredObject(key, len(self.objects[key]))

    async def delete_tree(self, prefix: str) -> int:
        """How many objects there were."""
        _checked(prefix)
        doomed = [key for key in self.objects if _below(key, prefix)]
        for key in doomed:
            del self.objects[key]
        return len(doomed)

    def local_path(self, key: str) -> str | None:
        """None: memory has no paths."""
        _checked(key)
        return None


def _below(key: str, prefix: str) -> bool:
    return not prefix or key == prefix or key.startswith(f"{prefix}/")


def _checked(key: str) -> str:
    if "\0" in key or any(part in {"", ".", ".."} for part in key.split("/")):
        message = f"{key!r} is not a key: it must be relative, without `..` and without empty parts"
        raise ValueError(message)
    return key
