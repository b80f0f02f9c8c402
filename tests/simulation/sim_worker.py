"""A worker that behaves as the agent does, without processes: it claims, runs for a drawn time, reports and renews."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from sim_experiments import Nature
from sim_platform import Platform

from airavata_scheduler.platform.domain.failures import Cause
from airavata_scheduler.platform.domain.messages import (
    Batch,
    ChannelUnavailableError,
    Directives,
    Hello,
    Launch,
    Output,
    Program,
    Report,
    Welcome,
    WorkerGoneError,
)
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.states import TaskState

Key = tuple[int, int, int]
FIRST_BACKOFF_S = 0.1
MOST_BACKOFF_S = 5.0
TELL_HELD_S = 10.0


def key_of(launch: Launch | Report) -> Key:
    return launch.step_id, launch.index, launch.attempt


class SimWorker:
    """One place: its agent may die, freeze, and register again."""

    def __init__(self, platform: Platform, natures: Mapping[tuple[str, str], Nature], name: str, resource: str) -> None:
        rng = platform.rng
        self.platform = platform
        self.natures = natures
        self.hello = Hello(name, resource, "host", "node", 1, "0", Capacity(cpu=rng.choice((2, 2, 4))))
        self.prefetch = rng.choice((1, 1, 3))
        self.frozen_until = 0.0
        self.draining = False
        self.session: Session | None = None
        self._agent: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._agent is None or self._agent.done():
            self._agent = asyncio.ensure_future(self._run())

    def die(self) -> None:
        """With everything it ran."""
        if self._agent is not None:
            self._agent.cancel()
            self._agent = None

    def freeze(self, for_s: float) -> None:
        self.frozen_until = self.platform.clock.monotonic() + for_s

    async def thaw(self) -> None:
        """Every step of the agent passes here: while it is frozen it does nothing, and then goes on where it was."""
        while (left_s := self.frozen_until - self.platform.clock.monotonic()) > 0:  # noqa: ASYNC110 - it may be frozen again
            await asyncio.sleep(left_s)

    async def _run(self) -> None:
        while True:
            await self.thaw()
            asked_at = self.platform.clock.monotonic()
            try:
                welcome: Welcome = await self.platform.call("worker-lifecycle", "register", self.hello)
            except ChannelUnavailableError:
                await asyncio.sleep(0.3)
                continue
            session = self.session = Session(self, welcome, asked_at)
            await session.run()
            if not session.lost:
                with contextlib.suppress(ChannelUnavailableError):
                    await self.platform.call("worker-lifecycle", "goodbye", welcome.worker_id)


class Session:
    """Everything that belongs to one worker id."""

    def __init__(self, worker: SimWorker, welcome: Welcome, asked_at: float) -> None:
        self.worker = worker
        self.platform = worker.platform
        self.rng: random.Random = worker.platform.rng
        self.id = welcome.worker_id
        self.welcome = welcome
        self.lost = False
        self.draining = False
        self.queued: list[Launch] = []
        self.running: dict[Key, asyncio.Task[None]] = {}
        self.programs: dict[int, Program] = {}
        self.unsent: list[Report] = []
        self.sending: list[Report] = []
        self.free = worker.hello.capacity
        self._over = False
        self._changed = asyncio.Event()
        self._arrived = asyncio.Event()
        self._ended = asyncio.Event()
        self._believe(asked_at + welcome.lease_s)

    def _believe(self, lease_until: float) -> None:
        self._lease_until = self.platform.lease_until[self.id] = lease_until

    def _now(self) -> float:
        return self.platform.clock.monotonic()

    async def run(self) -> None:
        """Until the lease is lost or the drain is over; nothing runs any more when this returns."""
        loops = (self._claim, self._report, self._heartbeat, self._watch)
        tasks = [asyncio.ensure_future(self._guarded(loop)) for loop in loops]
        try:
            await self._ended.wait()
        finally:
            self._over = True
            self.platform.lease_until.pop(self.id, None)
            for task in (*tasks, *self.running.values()):
                task.cancel()
        await asyncio.gather(*tasks, *self.running.values(), return_exceptions=True)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except WorkerGoneError:
            self.lost = True
            self._ended.set()
        except Exception as error:  # noqa: BLE001 - whatever it is, the run must fail with it
            self.platform.failures.append(error)
            self._ended.set()

    # ----------------------------------------------------------------------------------------------------------- loops

    async def _claim(self) -> None:
        backoff_s, told_at = 0.0, self._now()
        while True:
            self._changed.clear()
            wanted = self._wanted()
            if self.draining or wanted.cpu <= 0:
                await self._changed.wait()
                continue
            await asyncio.sleep(backoff_s)
            await self.worker.thaw()
            held = self._identities()
            tell = bool(backoff_s) or not held or self._now() - told_at > TELL_HELD_S
            if tell:
                told_at = self._now()
            most = self.rng.choice((1, 4, 100))
            wait_s = 1.0 if held else 20.0
            try:
                batch = await self.platform.call(
                    "task-scheduler", "claim", self.id, wanted, most, wait_s, held if tell else None
                )
            except ChannelUnavailableError:
                backoff_s = min(2 * backoff_s or FIRST_BACKOFF_S, MOST_BACKOFF_S)
                continue
            backoff_s = 0.0
            await self.worker.thaw()
            self._take(batch, wanted, most)

    def _wanted(self) -> Capacity:
        room = self.worker.hello.capacity.plus(self.worker.hello.capacity, self.worker.prefetch - 1)
        for launch in self.queued:
            room = room.plus(self.programs[launch.step_id].request, -1)
        for step_id, _, _ in self.running:
            room = room.plus(self.programs[step_id].request, -1)
        return room

    def _identities(self) -> list[Key]:
        return [*map(key_of, self.queued), *self.running, *map(key_of, self.sending), *map(key_of, self.unsent)]

    def _take(self, batch: Batch, wanted: Capacity, most: int) -> None:
        """S4: what is handed out is what was asked for."""
        self.programs.update(batch.programs)
        need = Capacity(cpu=0.0)
        for launch in batch.launches:
            need = need.plus(self.programs[launch.step_id].request)
        self.platform.require(len(batch.launches) <= most, f"asked for {most} tasks, got {len(batch.launches)}")
        self.platform.require(need.fits_in(wanted), f"asked for {wanted}, got {need}")
        known = set(self._identities())
        self.platform.require(not known & set(map(key_of, batch.launches)), "handed out what is held already")
        self.queued.extend(batch.launches)
        self._place()

    def _place(self) -> None:
        for launch in list(self.queued):
            request = self.programs[launch.step_id].request
            if request.fits_in(self.free):
                self.queued.remove(launch)
                self.free = self.free.plus(request, -1)
                task = self.running[key_of(launch)] = asyncio.ensure_future(
                    self._guarded(partial(self._attempt, launch))
                )
                task.add_done_callback(lambda _, request=request: self._freed(request))
        self._changed.set()

    def _freed(self, request: Capacity) -> None:
        self.free = self.free.plus(request)
        if not self._over:
            self._place()

    async def _attempt(self, launch: Launch) -> None:
        program, key, rng = self.programs[launch.step_id], key_of(launch), self.rng
        nature = self.worker.natures[program.experiment, program.step]
        started_at = self.platform.clock.time()
        wall_s = rng.expovariate(1.0 / nature.mean_s)
        if wall_s > 0.1:
            self._add(Report(*key, TaskState.RUNNING, started_at=started_at))
        await asyncio.sleep(wall_s)
        await self.worker.thaw()
        if rng.random() < 0.1:
            self._add(Report(*key, TaskState.COLLECTING, started_at=started_at))
            await asyncio.sleep(rng.uniform(0.0, 0.5))
        self.running.pop(key, None)
        draw = rng.random()
        if draw < nature.fails:
            self._add(Report(*key, TaskState.FAILED, Cause.EXIT_CODE, "drawn", 1, started_at=started_at, wall_s=wall_s))
        elif draw < nature.fails + nature.breaks:
            self._add(
                Report(*key, TaskState.FAILED, Cause.INFRASTRUCTURE, "drawn", started_at=started_at, wall_s=wall_s)
            )
        else:
            name = f"{program.output_prefix}/{launch.index}/{launch.attempt}/out.txt"
            outputs = (Output("OUT", name, 1, f"{self.id}"),)
            self._add(Report(*key, TaskState.SUCCEEDED, started_at=started_at, wall_s=wall_s, outputs=outputs))

    def _add(self, report: Report) -> None:
        self.unsent.append(report)
        self._arrived.set()

    async def _report(self) -> None:
        while True:
            await self._arrived.wait()
            await asyncio.sleep(0.05)
            await self.worker.thaw()
            self.sending, self.unsent = self.unsent, []
            self._arrived.clear()
            backoff_s = FIRST_BACKOFF_S
            while self.sending:
                try:
                    await self.platform.call("task-scheduler", "report", self.id, self.sending)
                    self.sending = []
                except ChannelUnavailableError:
                    await asyncio.sleep(backoff_s)
                    backoff_s = min(2 * backoff_s, MOST_BACKOFF_S)
                await self.worker.thaw()

    async def _heartbeat(self) -> None:
        while True:
            await self.worker.thaw()
            asked_at = self._now()
            try:
                directives: Directives = await self.platform.call(
                    "worker-lifecycle", "heartbeat", self.id, self.free, len(self.running), self.welcome.heartbeat_s
                )
            except ChannelUnavailableError:
                await asyncio.sleep(FIRST_BACKOFF_S)
                continue
            await self.worker.thaw()
            self._believe(asked_at + directives.lease_s)
            self._obey(directives)
            await asyncio.sleep(max(0.0, 0.05 - (self._now() - asked_at)))

    async def _watch(self) -> None:
        while (left_s := self._lease_until - self._now()) > 0:
            if self.draining and not self._identities():
                self._ended.set()
            await asyncio.sleep(min(left_s, 0.25) if self.draining else left_s)
            await self.worker.thaw()
        self.lost = True
        self._ended.set()

    def _obey(self, directives: Directives) -> None:
        if directives.drain:
            self.draining = True
        for launch in [launch for launch in self.queued if launch.step_id in directives.recall_steps]:
            self.queued.remove(launch)
            self._add(Report(*key_of(launch), TaskState.CANCELED, Cause.CANCELED))
        for key in directives.cancel:
            for launch in [launch for launch in self.queued if key_of(launch) == key]:
                self.queued.remove(launch)
                self._add(Report(*key, TaskState.CANCELED, Cause.CANCELED))
            task = self.running.pop(key, None)
            if task is not None:
                task.cancel()
                self._add(Report(*key, TaskState.CANCELED, Cause.CANCELED))
        self._changed.set()
