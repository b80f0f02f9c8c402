"""Real processes through a platform of their own, beside what the machine could do without us, in turns with peers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.bare import bare_s
from benchmarks.live import LivePlatform, sweep, temporary_home, until_running
from benchmarks.peers.running import PeerError, run_peer
from benchmarks.proc import anonymous_bytes, cpu_s, used_since
from benchmarks.saying import say

FULL = ("xargs", "ray")  #: peers that run as many tasks as we do; the slower ones run a third of them
PENDING = 100_000  #: at least so many tasks wait while memory is measured; fewer would drown in the noise


@dataclass(frozen=True, slots=True)
class Round:
    """One run of ours beside a bare one."""

    tasks_per_s: float
    spawn_per_s: float
    cpu_s: float
    files: int

    @property
    def ratio(self) -> float:
        """Of the same command by the bare interpreters."""
        return self.tasks_per_s / self.spawn_per_s


@dataclass(frozen=True, slots=True)
class Outcome:
    """``chosen`` is the round with the median ratio."""

    chosen: Round
    rounds: tuple[Round, ...]
    pending_bytes: float
    peers: dict[str, Any]


def measure(
    command: Sequence[str], tasks: int, slots: int, rounds: int, peers: Sequence[str], *, memory: bool = True
) -> Outcome:
    """Bare, ours, and each peer; so many times in turns."""
    measured: list[Round] = []
    turns = _Peers(peers, command, tasks, slots)
    with temporary_home() as home, LivePlatform(home, slots) as platform:
        platform.warm_up()
        pending = memory_per_pending_task(platform, max(tasks, PENDING)) if memory else 0.0
        for number in range(rounds):
            bare = tasks / bare_s(command, tasks, slots)
            files, before = platform.files(), cpu_s(platform.pids())
            took_s = platform.run(command, tasks)
            spent_s, made = used_since(before, platform.pids()), max(0, platform.files() - files)
            measured.append(Round(tasks / took_s, bare, spent_s, made))
            say(f"round {number + 1}: {tasks / took_s:.1f} tasks/s, bare {bare:.1f}/s, {measured[-1].ratio:.3f} of it")
            turns.take()
    chosen = sorted(measured, key=lambda one: one.ratio)[len(measured) // 2]
    return Outcome(chosen, tuple(measured), pending, turns.told(chosen))


def memory_per_pending_task(platform: LivePlatform, tasks: int) -> float:
    """Bytes by which our processes grow for each of very many tasks that wait behind sleeping ones."""
    before = anonymous_bytes(platform.pids())
    with platform.client() as client:
        run = client.submit(sweep(["sleep", "3600"], tasks, "pending"))
        until_running(run)
        grown = anonymous_bytes(platform.pids()) - before
        run.cancel()
    return max(0.0, grown / tasks)


class _Peers:
    """Each takes its turn; one that failed says why and is not asked again."""

    def __init__(self, names: Sequence[str], command: Sequence[str], tasks: int, slots: int) -> None:
        self._command, self._slots = command, slots
        self._tasks = {name: tasks if name in FULL else max(1, tasks // 3) for name in names}
        self._seconds: dict[str, list[float]] = {name: [] for name in names}
        self._failed: dict[str, str] = {}

    def take(self) -> None:
        """One turn of each."""
        for name, seconds in self._seconds.items():
            if name in self._failed:
                continue
            try:
                seconds.append(run_peer(name, self._command, self._tasks[name], self._slots))
            except PeerError as error:
                self._failed[name] = str(error)
                say(f"  {name}: {error}")
            else:
                say(f"  {name}: {self._tasks[name] / seconds[-1]:.1f} tasks/s")

    def told(self, ours: Round) -> dict[str, Any]:
        """For each its rate, and ours over theirs; or why there is none."""
        found: dict[str, Any] = {}
        for name, seconds in self._seconds.items():
            if name in self._failed:
                found[name] = {"failed": self._failed[name]}
                continue
            rate = self._tasks[name] / statistics.median(seconds)
            found[name] = {
                "tasks_per_s": round(rate, 1),
                "ratio": round(rate / ours.spawn_per_s, 3),
                "ours_to_theirs": round(ours.tasks_per_s / rate, 3),
            }
        return found
