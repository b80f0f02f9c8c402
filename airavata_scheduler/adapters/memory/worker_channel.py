"""A platform in memory, as workers see it: for tests and simulation. Real guards, leases and directives; no planner.

`submit` makes tasks of a program; what became of them is in `ended`. A report counts only if the task is with the
worker that sends it, in the attempt that it names, as in the database.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from airavata_scheduler.platform.domain.messages import (
    Batch,
    Directives,
    Hello,
    Launch,
    Program,
    Report,
    StorageLocation,
    Welcome,
    WorkerGoneError,
)
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.states import ACTIVE

Identity = tuple[int, int, int]


class MemoryWorkerChannel:
    """One queue for all workers. ``clock_s`` tells the time of the leases."""

    def __init__(
        self,
        storages: Iterable[StorageLocation],
        lease_s: float = 10.0,
        heartbeat_s: float = 2.0,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ended: dict[Identity, Report] = {}
        self.running: dict[Identity, Report] = {}
        self.history: list[Report] = []
        self.stale: list[Identity] = []
        self.hellos: list[Hello] = []
        self._storages = tuple(storages)
        self._lease_s = lease_s
        self._heartbeat_s = heartbeat_s
        self._clock_s = clock_s
        self._programs: dict[int, Program] = {}
        self._ready: deque[Launch] = deque()
        self._held: dict[Identity, tuple[int, Launch]] = {}
        self._leases: dict[int, float] = {}
        self._names: dict[str, int] = {}
        self._last_worker_id = 0
        self._directives: dict[int, Directives] = {}
        self._changed = asyncio.Condition()

    # -------------------------------------------------------------------------------------------------- the test's side

    async def submit(self, program: Program, parameters: Sequence[Mapping[str, Any]]) -> list[Identity]:
        """Make one task for each set of parameters; their identities in order."""
        async with self._changed:
            self._programs[program.step_id] = program
            launches = [Launch(program.step_id, index, 1, values) for index, values in enumerate(parameters)]
            self._ready += launches
            self._changed.notify_all()
        return [(launch.step_id, launch.index, launch.attempt) for launch in launches]

    async def wait(self, identities: Iterable[Identity]) -> list[Report]:
        """The last reports of these attempts, when all have ended."""
        wanted = list(identities)
        async with self._changed:
            await self._changed.wait_for(lambda: all(identity in self.ended for identity in wanted))
        return [self.ended[identity] for identity in wanted]

    async def wait_running(self, identity: Identity) -> Report:
        """The report that an attempt runs."""
        async with self._changed:
            await self._changed.wait_for(lambda: identity in self.running)
        return self.running[identity]

    async def direct(self, **directives: Any) -> None:
        """Tell every worker something with its next heartbeat (fields of Directives)."""
        async with self._changed:
            for worker_id in self._leases:
                self._directives[worker_id] = Directives(self._lease_s, **directives)
            self._changed.notify_all()

    async def expire(self) -> None:
        """Let every lease run out; attempts that were held are ready again, as the next attempt."""
        async with self._changed:
            for worker_id in list(self._leases):
                self._drop(worker_id)
            self._changed.notify_all()

    # ------------------------------------------------------------------------------------------------ the worker's side

    async def register(self, hello: Hello) -> Welcome:
        async with self._changed:
            former = self._names.get(hello.name)
            if former is not None:
                self._drop(former)
            self.hellos.append(hello)
            self._last_worker_id += 1
            self._names[hello.name] = self._last_worker_id
            self._leases[self._last_worker_id] = self._clock_s() + self._lease_s
            self._changed.notify_all()
            return Welcome(self._last_worker_id, self._lease_s, self._heartbeat_s, self._storages)

    async def claim(
        self, worker_id: int, free: Capacity, most: int, wait_s: float, held: Sequence[Identity] | None = None
    ) -> Batch:
        async with self._changed:
            self._require(worker_id)
            if held is not None:
                self._give_back(worker_id, set(held))
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait_for(lambda: bool(self._ready) or worker_id not in self._leases)
            except TimeoutError:
                return Batch()
            self._require(worker_id)
            return self._hand_out(worker_id, free, most)

    def _give_back(self, worker_id: int, held: set[Identity]) -> None:
        for identity, (holder, launch) in list(self._held.items()):
            if holder == worker_id and identity not in held and identity not in self.running:
                del self._held[identity]
                self._ready.append(launch._replace(attempt=launch.attempt + 1))

    async def report(self, worker_id: int, reports: Sequence[Report]) -> list[Identity]:
        async with self._changed:
            self._require(worker_id)
            stale = [identity for report in reports if (identity := self._note(worker_id, report))]
            self.stale += stale
            self._changed.notify_all()
            return stale

    async def heartbeat(self, worker_id: int, free: Capacity, running: int, wait_s: float) -> Directives:
        del free, running  # the planner's, which is not here
        async with self._changed:
            self._require(worker_id)
            self._leases[worker_id] = self._clock_s() + self._lease_s
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait_for(lambda: worker_id in self._directives or worker_id not in self._leases)
            except TimeoutError:
                return Directives(self._lease_s)
            self._require(worker_id)
            return self._directives.pop(worker_id)

    async def goodbye(self, worker_id: int) -> None:
        async with self._changed:
            self._drop(worker_id)
            self._changed.notify_all()

    # ------------------------------------------------------------------------------------------------------- internals

    def _require(self, worker_id: int) -> None:
        until = self._leases.get(worker_id)
        if until is None or until < self._clock_s():
            self._drop(worker_id)
            raise WorkerGoneError(f"worker {worker_id} has no lease")

    def _drop(self, worker_id: int) -> None:
        self._leases.pop(worker_id, None)
        self._directives.pop(worker_id, None)
        for identity in [identity for identity, (holder, _) in self._held.items() if holder == worker_id]:
            _, launch = self._held.pop(identity)
            self._ready.append(launch._replace(attempt=launch.attempt + 1))

    def _hand_out(self, worker_id: int, free: Capacity, most: int) -> Batch:
        chosen: list[Launch] = []
        for _ in range(len(self._ready)):
            launch = self._ready.popleft()
            request = self._programs[launch.step_id].request
            if len(chosen) < most and request.fits_in(free):
                free = free.plus(request, -1)
                chosen.append(launch)
                self._held[launch.step_id, launch.index, launch.attempt] = (worker_id, launch)
            else:
                self._ready.append(launch)
        return Batch({launch.step_id: self._programs[launch.step_id] for launch in chosen}, tuple(chosen))

    def _note(self, worker_id: int, report: Report) -> Identity | None:
        identity = (report.step_id, report.index, report.attempt)
        holder, _ = self._held.get(identity, (0, None))
        if holder != worker_id:
            return identity
        self.history.append(report)
        if report.state in ACTIVE:
            self.running[identity] = report
        else:
            del self._held[identity]
            self.ended[identity] = report
        return None
