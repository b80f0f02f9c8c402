"""Unpacking a streamed tar archive that is not trusted."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

from airavata_scheduler.client.errors import ApiError, UnavailableError


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What was written."""

    directory: Path
    files: int
    size_bytes: int


class _Chunks(io.RawIOBase):
    """A file that is read once from front to back, out of chunks of any size."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        parts, wanted = [], size if size >= 0 else 1 << 62
        while wanted > 0:
            if not self._rest:
                self._rest = next(self._chunks, b"")
                if not self._rest:
                    break
            part, self._rest = self._rest[:wanted], self._rest[wanted:]
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)


def unpack(
    chunks: Iterator[bytes], directory: Path, progress: Callable[[int, int], None] = lambda _files, _bytes: None
) -> Unpacked:
    """Write the members of a tar stream below `directory`; `progress` gets files and bytes so far.

    Members that would leave the directory or are no plain files raise `ApiError`; a stream that ends early raises
    `UnavailableError`. What was written until then stays, and unpacking again overwrites it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    files = size_bytes = 0
    try:
        with tarfile.open(fileobj=cast("io.BufferedReader", _Chunks(chunks)), mode="r|") as archive:
            for member in archive:
                _write(archive, member, directory)
                files, size_bytes = files + 1, size_bytes + member.size
                progress(files, size_bytes)
    except tarfile.TarError as error:
        raise UnavailableError(f"the archive ended too early ({error})", remedy="download it again") from error
    return Unpacked(directory, files, size_bytes)


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, directory: Path) -> None:
    # The platform sends plain files only. `extract` with a filter would do, but Python has it from 3.11.4 on.
    parts = PurePosixPath(member.name).parts
    source = archive.extractfile(member) if member.isreg() else None
    if source is None or not parts or ".." in parts or parts[0] == "/":
        raise ApiError(f"the archive holds a member that is not safe to unpack: {member.name!r}")
    target = directory.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with source, target.open("wb") as file:
        shutil.copyfileobj(source, file)
        if file.tell() != member.size:
            raise tarfile.ReadError("unexpected end of data")
