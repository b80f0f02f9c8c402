"""Processes as they really are: identity that survives the reuse of a pid, a mark to find strays by, trees, locks.

Everything is read from ``/proc``. A pid alone proves nothing: it may be a zombie that nobody collects (a small process
1 does not), or belong to another process by now. So a process is its pid, its start time and the boot it was started
in.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MARK_VARIABLE = "AIRAVATA_HOME_MARK"
_PROC = Path("/proc")
_STATE, _PARENT, _START = 0, 1, 19


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process, for ever: `start_ticks` is its start in clock ticks since the boot with the id `boot`."""

    pid: int
    start_ticks: int
    boot: str

    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return self.boot == boot_id() and _start_ticks(self.pid) == self.start_ticks

    def kill(self, number: int = signal.SIGKILL) -> bool:
        """Sends a signal if it still is the same process; whether it was sent."""
        if not self.alive():
            return False
        try:
            os.kill(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def as_json(self) -> dict[str, Any]:
        return {"pid": self.pid, "start_ticks": self.start_ticks, "boot": self.boot}

    @classmethod
    def from_json(cls, value: object) -> ProcessId | None:
        """The process that `as_json` described, or None when `value` is something else."""
        if not isinstance(value, Mapping):
            return None
        try:
            return cls(int(value["pid"]), int(value["start_ticks"]), str(value["boot"]))
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class Belongings:
    """How to recognise a process of one home.

    The mark in its environment is enough, but programs that set their own title (PostgreSQL, Ray's workers) overwrite
    the memory that ``/proc/<pid>/environ`` shows. PostgreSQL is then known by its working directory, Ray's by the log
    files that it writes below `ray_dir`.
    """

    mark: str
    postgres_dirs: tuple[Path, ...]
    ray_dir: Path

    def owns(self, pid: int) -> bool:
        if environment_of(pid).get(MARK_VARIABLE) == self.mark:
            return True
        if any(works_in(pid, "postgres", str(path)) for path in self.postgres_dirs):
            return True
        return _title(pid).startswith(("ray::", "ray-dashboard")) and self._writes_below_ray_dir(pid)

    def _writes_below_ray_dir(self, pid: int) -> bool:
        directory = _PROC / str(pid) / "fd"
        prefix = f"{self.ray_dir}/"
        try:
            return any(_link(descriptor).startswith(prefix) for descriptor in directory.iterdir())
        except OSError:
            return False

    def find(self) -> list[ProcessId]:
        """Every live process of this home but the caller and those that the caller runs under."""
        spared = set(ancestors(os.getpid()))
        found = (identify(pid) for pid in pids() if pid not in spared and self.owns(pid))
        return [process for process in found if process is not None]


@functools.cache
def boot_id() -> str:
    """The id of the current boot."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def pids() -> list[int]:
    """Every process there is."""
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]


def identify(pid: int) -> ProcessId | None:
    """The process that has this pid now, or None when there is none or it is a zombie."""
    ticks = _start_ticks(pid)
    return None if ticks is None else ProcessId(pid, ticks, boot_id())


def identify_self() -> ProcessId:
    """The calling process."""
    process = identify(os.getpid())
    if process is None:
        raise RuntimeError("/proc does not show the calling process: mount /proc, the launcher cannot work without it")
    return process


def environment_of(pid: int) -> dict[str, str]:
    """The environment a process was started with; empty when it is gone, not ours, or has overwritten it."""
    try:
        data = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return {}
    pairs = (entry.partition("=") for entry in data.decode(errors="replace").split("\0") if "=" in entry)
    return {key: value for key, _, value in pairs}


def command_of(pid: int) -> list[str]:
    """The command line of a process as a list; empty when it is gone."""
    try:
        return (_PROC / str(pid) / "cmdline").read_text(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []


def works_in(pid: int, program: str, directory: str) -> bool:
    """Whether a process runs the executable named `program` with `directory` as its working directory."""
    return _executable(pid) == program and _link(_PROC / str(pid) / "cwd") == directory


def ancestors(pid: int) -> Iterator[int]:
    """`pid`, its parent, and so on, up to but without process 1."""
    while pid > 1:
        yield pid
        fields = _stat(pid)
        pid = int(fields[_PARENT]) if fields else 0


def descendants(root: int) -> list[int]:
    """Every process below `root`, parents before their children, without `root` itself."""
    children: dict[int, list[int]] = {}
    for pid in pids():
        fields = _stat(pid)
        if fields:
            children.setdefault(int(fields[_PARENT]), []).append(pid)
    found = list(children.get(root, ()))
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def end_processes(processes: Iterable[ProcessId], term_s: float, kill_s: float = 5.0) -> list[ProcessId]:
    """TERM, then KILL for what is left after `term_s` seconds; returns what even KILL did not end within `kill_s`."""
    targets = list(processes)
    if term_s > 0:
        for process in targets:
            process.kill(signal.SIGTERM)
        wait_until(lambda: not any(process.alive() for process in targets), term_s)
    for process in targets:
        process.kill(signal.SIGKILL)
    wait_until(lambda: not any(process.alive() for process in targets), kill_s)
    return [process for process in targets if process.alive()]


def end_all(find: Callable[[], list[ProcessId]], limit_s: float) -> list[ProcessId]:
    """KILL until `find` returns nothing, as a dying process may start another; returns what is left at the limit."""
    end = time.monotonic() + limit_s
    left = find()
    while left and time.monotonic() < end:
        end_processes(left, term_s=0, kill_s=1.0)
        left = find()
    return left


def wait_until(condition: Callable[[], bool], limit_s: float, step_s: float = 0.02) -> bool:
    """Waits for a condition that nothing can wake us up for; whether it came true within the limit."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(step_s)
    return True


def reap_children() -> dict[int, int]:
    """Collects children that have ended, also adopted ones, so that no zombie stays; their exit codes by pid (-n for
    signal n).

    Only for the supervisor, and only while it waits for no child of its own: an exit status can be collected once.
    """
    codes: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            codes[pid] = os.waitstatus_to_exitcode(status)
    return codes


def write_json(path: Path, value: object) -> None:
    """Replaces `path` in one step; mode 0600; no fsync, as a power cut ends the processes described, too."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(value, file)
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`; empty when the file is missing, or damaged, which counts as missing."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


class FileLock:
    """An exclusive lock that ends with the process that holds it, however it ends. The file says who that is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, limit_s: float = 0.0) -> bool:
        """Takes the lock, waiting up to `limit_s` seconds; whether it is ours now."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        end = time.monotonic() + limit_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= end:
                    os.close(descriptor)
                    return False
                time.sleep(0.05)
            else:
                self._descriptor = descriptor
                self._sign(descriptor)
                return True

    def holder(self) -> ProcessId | None:
        """The live process that holds it; None while nobody does, and for the moment before a new holder has signed."""
        try:
            process = ProcessId.from_json(json.loads(self.path.read_text()))
        except (OSError, ValueError):
            return None
        return process if process is not None and process.alive() else None

    def _sign(self, descriptor: int) -> None:
        with contextlib.suppress(OSError):  # without room on the disk it is a lock all the same
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(identify_self().as_json()).encode(), 0)

    def release(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/<pid>/stat`` from the state on; the name before them may hold spaces and brackets."""
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _start_ticks(pid: int) -> int | None:
    fields = _stat(pid)
    return None if not fields or fields[_STATE] in ("Z", "X") else int(fields[_START])


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _executable(pid: int) -> str:
    return Path(_link(_PROC / str(pid) / "exe")).name


def _title(pid: int) -> str:
    command = command_of(pid)
    return command[0] if command else ""
