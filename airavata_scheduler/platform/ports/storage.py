"""Where outputs, logs and manifests live, as keys and bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as it was written or found."""

    key: str
    size_bytes: int


class Storage(Protocol):
    """One storage resource. Keys are relative, `/`-separated, without `..` or an empty part (ValueError otherwise)."""

    @property
    def kind(self) -> str: ...

    async def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of one object (FileNotFoundError if there is none; shorter at its end)."""
        ...

    def stream(self, key: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The same in chunks of at most 1 MiB."""
        ...

    async def write(self, key: str, data: bytes | AsyncIterator[bytes]) -> StoredObject:
        """Create or replace atomically."""
        ...

    async def size(self, key: str) -> int | None:
        """Size in bytes, or None if there is no such object."""
        ...

    def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        """Objects below a prefix, in key order."""
        ...

    async def delete_tree(self, prefix: str) -> int:
        """Delete everything below a prefix; the number of objects deleted."""
        ...

    def local_path(self, key: str) -> str | None:
        """The path at which programs on the worker's machine find the object, where the resource has paths."""
        ...
