"""Append-only segment files that hold the standard output of many tasks, one pair of files for each slot.

A task writes straight into the file (O_APPEND), so there is no pipe to drain and no file per task. What a task wrote is
the piece between the size before and the size after it.
"""

from __future__ import annotations

import os

SEGMENT_BYTES = 64 * 1024 * 1024
_OPEN = os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_CLOEXEC

#: (segment key, offset, length, truncated)
Piece = tuple[str, int, int, bool]


class Segment:
    """The current segment file of one slot and one stream (`out` or `err`)."""

    def __init__(self, root: str, worker_id: int, slot: str, stream: str) -> None:
        self._root = root
        self._pattern = f".segments/{worker_id}/{slot}-%d.{stream}"
        self._cut = False
        self._open(0)

    def _open(self, number: int) -> None:
        """Go on in another file, or as before where it cannot be opened (OSError)."""
        key = self._pattern % number
        path = os.path.join(self._root, key)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.fd = os.open(path, _OPEN, 0o640)
        self.key, self._number = key, number
        self.start = self._size()  # not 0 when a spawner died and its successor goes on

    def full(self) -> bool:
        return self.start >= SEGMENT_BYTES

    def rotate(self) -> None:
        """Go on in the next file, or as before where there is no room for one (OSError). Only between tasks."""
        old = self.fd
        self._open(self._number + 1)
        os.close(old)

    def curb(self, cap_bytes: int) -> None:
        """Cut back to the cap while the task still writes; its next write lands there again."""
        if self._size() > self.start + cap_bytes:
            os.ftruncate(self.fd, self.start + cap_bytes)
            self._cut = True

    def finish(self, cap_bytes: int) -> Piece | None:
        """The piece that the task wrote, or None if it wrote nothing; the next task starts behind it."""
        start, end = self.start, self._size()
        if end == start and not self._cut:
            return None
        truncated = self._cut or end > start + cap_bytes
        if truncated:
            end = min(end, start + cap_bytes)
            os.ftruncate(self.fd, end)
            end += _append_notice(self.fd, cap_bytes)
            self._cut = False
        self.start = end
        return (self.key, start, end - start, truncated)

    def read(self, piece: Piece, most_bytes: int) -> bytes:
        """The bytes of a piece of the current file, ``most_bytes`` at most."""
        return os.pread(self.fd, min(piece[2], most_bytes), piece[1])

    def close(self) -> None:
        os.close(self.fd)

    def _size(self) -> int:
        """How much has been written so far; a seek is cheaper than a look at all that is known of the file."""
        return os.lseek(self.fd, 0, os.SEEK_END)


def _append_notice(fd: int, cap_bytes: int) -> int:
    notice = f"\n[airavata: output cut here, after max_output_bytes = {cap_bytes}]\n".encode()
    try:
        return os.write(fd, notice)
    except OSError:  # a full disk; the flag in the piece says the same
        return 0
