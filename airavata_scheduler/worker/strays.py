"""Find and end processes that outlived the task which started them."""

from __future__ import annotations

import os
import signal
import time

_PATIENCE_S = 2.0
#: Fields of /proc/PID/stat after the name, which may hold blanks; starts are in clock ticks since the machine's.
_PARENT, _STARTED = 1, 19


def no_children_left() -> bool:
    """Whether this process has no children at all; ended ones are reaped on the way.

    Orphans are adopted by the spawner, so with no task running this means that nothing is left of any.
    """
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


def end_everything(in_namespace: bool) -> None:
    """Kill every process below this one. In a namespace of our own one call does it."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if in_namespace:
            _kill(-1)
        else:
            for pid in children():
                _kill(pid)  # its own children are adopted by us and found next time
        if no_children_left():
            return
        time.sleep(0.001)


def end_marked(mark: str, spared: set[int]) -> None:
    """Kill the processes whose environment carries ``mark``, but none of ``spared``."""
    for pid in marked(mark):
        if pid not in spared:
            _kill(pid)


def end_older(orphans: set[int], others: set[int]) -> None:
    """Kill those of our ``orphans`` that are older than each of ``others``, and therefore belong to none of them.

    It finds those that have cleared their environment. One that is younger is found when the others have ended.
    """
    oldest = min((started for pid in others if (started := _stat(pid, _STARTED))), default=0)
    for pid in orphans:
        if 0 < _stat(pid, _STARTED) < oldest:
            _kill(pid)  # its own children are adopted by us and found next time


def marked(mark: str) -> list[int]:
    """Process ids whose environment has an entry that begins with ``mark``; a final NUL makes it the whole entry."""
    wanted = b"\0" + mark.encode()
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if wanted in _environment(pid)]


def children() -> set[int]:
    """The direct children of this process, ended ones included."""
    pid = os.getpid()
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return {int(word) for word in file.read().split()}
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return {int(name) for name in os.listdir("/proc") if name.isdigit() and _stat(int(name), _PARENT) == pid}


def reap(pids: set[int]) -> None:
    """Collect those of ``pids`` that ended, so that none stays as a zombie."""
    for pid in pids:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            continue


def _environment(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return b"\0" + file.read()
    except OSError:
        return b""


def _stat(pid: int, field: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[field])
    except OSError:
        return 0


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
