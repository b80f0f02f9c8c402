"""Looking at processes and the machine from outside: CPU time, memory, files, and what others use meanwhile."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

#: As Ray's core worker and its gRPC name them; the kernel cuts names off.
_RAY_THREADS = ("worker.io", "client.poll", "server.poll", "task_event", "nexting_thread", "event_engine", "gcs_client")
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pids: Iterable[int]) -> dict[int, float]:
    """Seconds of CPU that each of these has used itself, its children's excluded; those that ended are left out."""
    used = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used[pid] = (int(fields[11]) + int(fields[12])) / _TICKS
    return used


def ray_threads_cpu_s(pids: Iterable[int]) -> float:
    """Seconds of CPU of the threads that Ray's own library runs in these processes, which run none of our code."""
    used = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").glob("*"):
            with contextlib.suppress(OSError):
                name = (thread / "comm").read_text()
                if name.startswith(_RAY_THREADS):
                    used += int((thread / "schedstat").read_text().split()[0])
    return used / 1e9


def used_since(before: dict[int, float], pids: Iterable[int]) -> float:
    """CPU seconds since ``before``; processes that are new since then count from their start."""
    return sum(now - before.get(pid, 0.0) for pid, now in cpu_s(pids).items())


def anonymous_bytes(pids: Iterable[int]) -> int:
    """Resident memory of these that no file and no shared buffer stands behind."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    total += 1024 * int(line.split()[1])
    return total


def count_files(*roots: Path) -> int:
    """Files below these directories."""
    return sum(len(files) for root in roots for _, _, files in os.walk(root))


def _jiffies() -> list[int]:
    return [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]


@dataclass(slots=True)
class Disturbance:
    """How busy the machine was: the load before we began, and the share of time that the hypervisor took meanwhile."""

    load: float = field(default_factory=lambda: os.getloadavg()[0])
    began_s: float = field(default_factory=time.monotonic)
    _before: list[int] = field(default_factory=_jiffies)

    def seen(self) -> dict[str, float]:
        """`load_before`, `stolen` (0 to 1) and `took_s`, up to now."""
        passed = [now - then for now, then in zip(_jiffies(), self._before, strict=True)]
        stolen = passed[7] / max(1, sum(passed))
        took_s = time.monotonic() - self.began_s
        return {"load_before": round(self.load, 2), "stolen": round(stolen, 3), "took_s": round(took_s, 1)}
