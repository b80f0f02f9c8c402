"""Length-prefixed marshal frames between agent and spawner: the same interpreter on both ends, and no import needed."""

from __future__ import annotations

import marshal
import struct
from typing import Any

_HEADER = struct.Struct("!I")


def encode(messages: list[Any]) -> bytes:
    """One frame that holds many messages (tuples of plain values)."""
    body = marshal.dumps(messages)
    return _HEADER.pack(len(body)) + body


class Decoder:
    """Puts received pieces together again."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """The messages of every frame that is complete by now."""
        self._buffer += data
        messages: list[Any] = []
        start = 0
        while len(self._buffer) - start >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._buffer, start)
            end = start + _HEADER.size + length
            if len(self._buffer) < end:
                break
            messages += marshal.loads(self._buffer[start + _HEADER.size : end])  # noqa: S302 (our own process)
            start = end
        del self._buffer[:start]
        return messages
