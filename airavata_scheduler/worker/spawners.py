"""All spawners of a session: settings, restart after a death, messages to one or to all."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.worker.leftovers import Scratch
from airavata_scheduler.worker.pool import SpawnerProcess
from airavata_scheduler.worker.sandbox import Sandbox

_MOST_SPAWNERS = 8
_MOST_QUICK_DEATHS = 5
_QUICK_S = 1.0


@dataclass(frozen=True, slots=True)
class SpawnerSettings:
    """What spawners have to know. ``roots`` are the directories of the storage resources."""

    worker_id: int
    roots: dict[str, str]
    segment_root: str
    scratch: Scratch
    sandbox: Sandbox
    base: dict[str, str]
    gpu_ids: tuple[int, ...]
    cgroups: dict[str, str]


class Spawners:
    """``received`` gets messages, ``died`` the number of a spawner that is gone and a sentence about it.

    ``failed`` hears of an error of theirs, and of a spawner that cannot be replaced: callbacks of an event loop have
    nobody else to tell, and a worker that went on would hold tasks that nobody runs.
    """

    def __init__(
        self,
        settings: SpawnerSettings,
        capacity: Capacity,
        received: Callable[[list[Any]], None],
        died: Callable[[int, str], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.slots = max(1, math.ceil(capacity.cpu))
        self.count = min(self.slots, os.cpu_count() or 1, _MOST_SPAWNERS)
        self._settings = settings
        self._received = received
        self._died = died
        self._failed = failed
        self._processes: dict[int, SpawnerProcess] = {}
        self._generation = 0
        self._quick_deaths = 0
        self._started_at = 0.0

    def start(self) -> None:
        for index in range(self.count):
            self._start(index)

    def restart(self, index: int) -> None:
        """Replace a dead one. OSError if it cannot be started, RuntimeError if they die as fast as they are started."""
        quick = time.monotonic() < self._started_at + _QUICK_S
        self._quick_deaths = self._quick_deaths + 1 if quick else 0
        if self._quick_deaths >= _MOST_QUICK_DEATHS:
            raise RuntimeError(
                f"{self._quick_deaths} spawner processes in a row died right after their start; "
                "their reason is on the standard error of this worker"
            )
        self._start(index)

    def send(self, index: int, messages: list[Any]) -> None:
        self._processes[index].send(messages)

    def broadcast(self, messages: list[Any]) -> None:
        for process in self._processes.values():
            process.send(messages)

    def programs(self, index: int) -> set[int]:
        """Steps whose programs a spawner knows; to be kept up by the caller."""
        return self._processes[index].programs

    def forget(self, step_ids: Iterable[int]) -> None:
        for process in self._processes.values():
            known = process.programs & set(step_ids)
            process.programs -= known
            process.send([("forget", step_id) for step_id in known])

    def pids(self) -> list[int]:
        return [process.pid for process in self._processes.values()]

    def kill(self) -> None:
        """End all of them, and with them every process of every task."""
        for process in self._processes.values():
            process.kill()
        self._processes.clear()
        if self._settings.sandbox.mode == "plain":
            self._settings.scratch.end_processes()

    def _start(self, index: int) -> None:
        self._generation += 1
        self._started_at = time.monotonic()
        process = SpawnerProcess(
            self._settings.sandbox, self._heeded(self._received), self._heeded(lambda: self._lost(index))
        )
        self._processes[index] = process
        process.send([("configure", self._message(index))])

    def _heeded(self, callback: Callable[..., None]) -> Callable[..., None]:
        def called(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except Exception as error:  # noqa: BLE001 (handed to whoever waits for the session)
                self._failed(error)

        return called

    def _lost(self, index: int) -> None:
        pid = self._processes[index].pid
        if self._settings.sandbox.mode == "plain":
            self._settings.scratch.end_processes(str(index))
        self._died(index, f"the spawner process {pid} died, and the task with it; it is tried again")

    def _message(self, index: int) -> dict[str, Any]:
        settings = self._settings
        return {
            "name": str(index),
            "worker_id": settings.worker_id,
            "roots": settings.roots,
            "segment_root": settings.segment_root,
            "directory": str(settings.scratch.path / f"spawner-{index}.{settings.worker_id}.{self._generation}"),
            "base": {**settings.base, **settings.scratch.mark(str(index))},
            "gpus_on_worker": bool(settings.gpu_ids),
            "wrapper": list(settings.sandbox.wrapper),
            "cgroups": settings.cgroups,
        }
