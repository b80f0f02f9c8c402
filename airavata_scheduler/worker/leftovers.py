"""A scratch directory belongs to one agent at a time; what an earlier one left behind is ended and removed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from airavata_scheduler.worker.outputs import incoming_of, is_incoming, remove_tree_if_there
from airavata_scheduler.worker.strays import marked
from airavata_scheduler.worker.workdir import remove_tree

_PATIENCE_S = 10.0
_AGENT_MARK = "AIRAVATA_AGENT"
_NAME_LENGTH = 12


class ScratchBusyError(Exception):
    """Another agent works in this scratch directory."""


class Scratch:
    """The scratch directory while we hold it."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = path
        self._lock = os.open(path / "agent.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            _lock(self._lock, path)
            self.token = _token(path / "token")
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def worker(self) -> str:
        """What the control groups of its agent are called by."""
        return self.token[:_NAME_LENGTH]

    def mark(self, spawner: str) -> dict[str, str]:
        """The variable that tells the tasks of one of our spawners from others'."""
        return {_AGENT_MARK: f"{self.token}.{spawner}"}

    def end_leftovers(self) -> int:
        """Kill processes of our mark and remove their directories. Only while no spawner of ours runs.

        Returns how many processes there were.
        """
        count = self.end_processes()
        self.remove_incoming()
        self.remove_directories()
        return count

    def remove_directories(self) -> None:
        """Remove the working directories of all attempts, as far as possible; only while none runs."""
        for entry in self.path.iterdir():
            if entry.name not in ("agent.lock", "token", "incoming"):
                # No other registration uses these names, so what cannot be removed is only in the way of the disk.
                with contextlib.suppress(OSError):
                    remove_tree(str(entry))

    def collects_in(self, roots: Iterable[str], worker_id: int) -> None:
        """Note where this registration puts outputs together: if it is killed, its successor cleans up there."""
        new = self.path / "incoming.new"
        # A disk that is too full for a note is no reason not to work; half a note would name another place.
        with contextlib.suppress(OSError):
            new.write_bytes(b"\0".join(os.fsencode(incoming_of(root, worker_id)) for root in roots))
            new.replace(self.path / "incoming")

    def remove_incoming(self) -> None:
        """Remove outputs that the last registration had begun to collect and will not publish, as far as possible."""
        places: list[bytes] = []
        with contextlib.suppress(OSError):
            places = (self.path / "incoming").read_bytes().split(b"\0")
        for place in map(os.fsdecode, places):
            with contextlib.suppress(OSError):
                if is_incoming(place):
                    remove_tree_if_there(place)

    def end_processes(self, spawner: str = "") -> int:
        """Kill processes of our mark, of one spawner or of all; returns how many there were."""
        count = 0
        deadline = time.monotonic() + _PATIENCE_S
        wanted = f"{_AGENT_MARK}={self.token}." + (f"{spawner}\0" if spawner else "")
        while (pids := marked(wanted)) and time.monotonic() < deadline:
            count = max(count, len(pids))
            for pid in pids:
                _kill(pid)
            time.sleep(0.005)
        return count

    def release(self) -> None:
        """Let another agent have the directory."""
        os.close(self._lock)


def workers_of(root: Path) -> list[str]:
    """The names of all agents, live or not, whose scratch directories are in this one."""
    return [path.read_text(encoding="ascii")[:_NAME_LENGTH] for path in root.glob("*/token")]


def _lock(fd: int, path: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ScratchBusyError(f"another agent works in {path}: stop it, or use another directory") from None
            time.sleep(0.05)


def _token(path: Path) -> str:
    if not path.exists():
        path.write_text(uuid.uuid4().hex, encoding="ascii")
    return path.read_text(encoding="ascii")


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
