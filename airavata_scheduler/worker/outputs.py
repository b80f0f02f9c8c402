"""Declared outputs: found in the working directory, moved aside, hashed, and published by one rename.

Used by the spawner for little, and by a thread of the agent for much. Programs are dictionaries as in
`wire.program_to_wire`, identities are (step id, index, attempt).
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Mapping
from typing import Any

from airavata_scheduler.worker.workdir import remove_tree

#: Less room than this on a storage resource makes a failure the disk's fault.
FULL_BYTES = 64 * 1024

Identity = tuple[int, int, int]
#: (name, key, size in bytes, SHA-256)
Published = tuple[str, str, int, str]


class CollectError(Exception):
    """Outputs could not be collected. ``cause`` is the text of a `Cause`."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


def collect(
    directory: str, program: Mapping[str, Any], identity: Identity, root: str, worker_id: int
) -> list[Published]:
    """Publish the outputs that an attempt left in ``directory``. Raises CollectError."""
    incoming = os.path.join(incoming_of(root, worker_id), "{}.{}.{}".format(*identity))
    try:
        require_outputs(directory, program["outputs"])
        remove_tree_if_there(incoming)
        os.makedirs(incoming, mode=0o750)
        _move_all(directory, incoming, program["outputs"].values())
        prefix = f"{program['output_prefix']}/{identity[1]}/{identity[2]}"
        published = [_describe(name, path, incoming, prefix) for name, path in program["outputs"].items()]
        if program["fsync"]:
            _sync_tree(incoming)
        final = os.path.join(root, prefix)
        _publish(incoming, final)
        if program["fsync"]:
            _sync_names(final, root)
    except OSError as error:
        told = describe_storage_error(error, root)  # before there is room again
        remove_tree_if_there(incoming)
        raise CollectError(*told) from error
    return published


def require_outputs(directory: str, outputs: Mapping[str, str]) -> None:
    """Raise CollectError if a declared output is not there, or is what has no end or waits for somebody when read."""
    for name, path in outputs.items():
        try:
            mode = os.stat(os.path.join(directory, path)).st_mode
        except OSError:
            raise CollectError("missing_output", _missing_message(directory, name, path)) from None
        if not _is_kept(mode):
            told = f"declared output {name} = {path} is neither a file nor a directory; nothing else can be kept"
            raise CollectError("missing_output", told)


def collected_size_bytes(directory: str, outputs: Mapping[str, str], enough: int) -> int:
    """The size of all declared files; directories, whose size nobody knows yet, count as ``enough``."""
    total = 0
    for path in outputs.values():
        found = os.stat(os.path.join(directory, path))
        total += enough if os.path.isdir(os.path.join(directory, path)) else found.st_size
    return total


def incoming_of(root: str, worker_id: int) -> str:
    """Where a worker puts outputs together before they are published, a directory for each attempt."""
    return os.path.join(root, ".incoming", str(worker_id))


def is_incoming(path: str) -> bool:
    """Whether this is such a place, whoever says so: what is removed must be nothing else."""
    parent, name = os.path.split(path)
    return name.isdigit() and os.path.basename(parent) == ".incoming"


def remove_tree_if_there(path: str) -> None:
    """Remove a tree whose parent may be missing as well."""
    if os.path.lexists(path):
        remove_tree(path)


def describe_storage_error(error: OSError, root: str) -> tuple[str, str]:
    """Cause and message for a failure to write to a storage resource.

    A copy of a whole tree (`shutil.Error`) does not tell the number of what it met, so the disk itself is asked.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or (error.errno is None and free_bytes(root) < FULL_BYTES):
        return "infrastructure", disk_full_message(root)
    return "staging", f"outputs could not be stored below {root}: {error}"


def disk_full_message(path: str) -> str:
    """What is full, how full, and what to do."""
    return f"disk full: {path} has {free_bytes(path)} bytes free; make room there, the task is tried again"


def fullest(*paths: str) -> str:
    """The one with the least room; who finds no room does not always know which one it was."""
    return min(paths, key=free_bytes)


def free_bytes(path: str) -> int:
    """What an ordinary user may still write at ``path``."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def _is_kept(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _missing_message(directory: str, name: str, path: str) -> str:
    names = sorted(os.listdir(directory))
    there = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return (
        f"declared output {name} = {path} is not there after the program ended; "
        f"the working directory holds {there or 'nothing'}; write to the path in the variable {name}"
    )


def _move_all(directory: str, incoming: str, paths: Any) -> None:
    """Outer paths first, so that an output inside another one is found where its directory went."""
    for path in sorted(set(paths), key=lambda path: (path.count("/"), path)):
        source, target = os.path.join(directory, path), os.path.join(incoming, path)
        if os.path.lexists(target):
            continue
        os.makedirs(os.path.dirname(target), mode=0o750, exist_ok=True)
        _move(source, target)


def _move(source: str, target: str) -> None:
    if os.path.islink(source):  # what it points to is the output; a link would break
        source = os.path.realpath(source)
        _copy(source, target)
        return
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, target)


def _copy(source: str, target: str) -> None:
    if os.path.isdir(source):
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target)


def _describe(name: str, path: str, incoming: str, prefix: str) -> Published:
    found = os.path.join(incoming, path)
    size, digest = _tree_digest(found) if os.path.isdir(found) else (os.stat(found).st_size, _file_digest(found))
    return (name, f"{prefix}/{path}", size, digest)


def _file_digest(path: str) -> str:
    import hashlib  # noqa: PLC0415 (a spawner without outputs does not need it)

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tree_digest(top: str) -> tuple[int, str]:
    """Size of all files, and the hash of a manifest with one sorted line for each: digest and relative path."""
    import hashlib  # noqa: PLC0415 (as above)

    lines, total = [], 0
    for directory, _, names in os.walk(top):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.islink(path):
                digest = f"link:{os.readlink(path)}"
            elif os.path.isfile(path):
                digest, total = _file_digest(path), total + os.stat(path).st_size
            else:
                digest = "special"
            lines.append(f"{digest}  {os.path.relpath(path, top)}\n")
    manifest = "".join(sorted(lines, key=lambda line: line.split("  ", 1)[1]))
    return total, hashlib.sha256(manifest.encode("utf-8", "surrogateescape")).hexdigest()


def _sync_tree(top: str) -> None:
    for directory, _, names in os.walk(top):
        for path in (directory, *(os.path.join(directory, name) for name in names)):
            if _is_kept(os.lstat(path).st_mode):
                _sync(path)


def _sync_names(final: str, root: str) -> None:
    """The directories on the way to an output may be as new as what it is."""
    while len(final) > len(root):
        final = os.path.dirname(final)
        _sync(final)


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _publish(incoming: str, final: str) -> None:
    os.makedirs(os.path.dirname(final), mode=0o750, exist_ok=True)
    try:
        os.rename(incoming, final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        # What is there was left by a worker that lost this attempt: nothing refers to it.
        os.rename(final, incoming + ".stale")
        os.rename(incoming, final)
        remove_tree(incoming + ".stale")
