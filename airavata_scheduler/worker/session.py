"""One registration of a worker: claims, spawners, reports and heartbeats until it ends, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from airavata_scheduler.platform.domain.failures import Cause
from airavata_scheduler.platform.domain.messages import (
    Batch,
    ChannelUnavailableError,
    Directives,
    Extent,
    Hello,
    Output,
    Report,
    Welcome,
    WorkerGoneError,
)
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.worker.channel import Channel
from airavata_scheduler.worker.dispatch import Dispatcher
from airavata_scheduler.worker.outputs import CollectError, collect
from airavata_scheduler.worker.reporter import FIRST_BACKOFF_S, MOST_BACKOFF_S, Reporter
from airavata_scheduler.worker.spawners import Spawners, SpawnerSettings
from airavata_scheduler.worker.wire import (
    Identity,
    failed_report,
    grown,
    launch_to_wire,
    program_to_wire,
    report_from_wire,
    running_report,
)
from airavata_scheduler.worker.workdir import remove_tree

#: A claim of an idle worker waits this long at the platform; that of a busy one less, because its room changes.
_IDLE_CLAIM_S = 20.0
_BUSY_CLAIM_S = 1.0
_LEAST_HEARTBEAT_S = 0.05
_TELL_HELD_S = 10.0
_KEPT_PROGRAMS = 256
_COLLECTORS = 2
_CANCEL_AGAIN_S = 1.0


class Ending(Enum):
    """How a registration ended."""

    STOPPED = auto()  #: On our own wish.
    DRAINED = auto()  #: Nothing left to do, and nothing more wanted.
    LOST = auto()  #: The lease is gone; register anew.


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counts for people and metrics."""

    running: int
    queued: int
    slots: int
    unsent: int


class Session:
    """Everything that belongs to one worker id."""

    def __init__(
        self, channel: Channel, hello: Hello, welcome: Welcome, asked_at: float, settings: SpawnerSettings, fsync: bool
    ) -> None:
        """``asked_at``: when the registration was asked for, by `clock_s`."""
        self._channel = channel
        self._worker_id = welcome.worker_id
        self._welcome = welcome
        self._settings = settings
        self._fsync = fsync
        self._spawners = Spawners(settings, hello.capacity, self._received, self._spawner_died, self._fail)
        self._dispatcher = Dispatcher(hello.capacity, settings.gpu_ids, self._spawners.count)
        self._reporter = Reporter(channel, welcome.worker_id, self._dispatcher.patience_s)
        self._collecting: dict[asyncio.Future[None], Identity] = {}
        self._live: dict[Identity, tuple[Extent, Extent]] = {}
        self._threads = ThreadPoolExecutor(_COLLECTORS, thread_name_prefix="airavata-collect")
        self._changed = asyncio.Event()
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._lease_until = asked_at + welcome.lease_s
        self._draining = False

    # ------------------------------------------------------------------------------------------------------- lifecycle

    async def run(self) -> Ending:
        """Work until the registration ends; nothing runs any more when this returns."""
        try:
            self._spawners.start()
            loops = (self._claim, self._reporter.run, self._heartbeat, self._watch)
            tasks = [asyncio.create_task(self._guarded(loop)) for loop in loops]
            try:
                return await self._ending
            finally:
                await _end_all(tasks)
        finally:
            self._spawners.kill()
            self._threads.shutdown(wait=True, cancel_futures=True)

    def stop(self) -> None:
        self._end(Ending.STOPPED)

    def drain(self) -> None:
        self._draining = True
        self._changed.set()

    def snapshot(self) -> Snapshot:
        running = self._dispatcher.running
        held = self._dispatcher.held
        return Snapshot(running, held - running, self._spawners.slots, self._reporter.unsent)

    def spawner_pids(self) -> list[int]:
        return self._spawners.pids()

    def live_output(self, identity: Identity) -> tuple[Extent, Extent] | None:
        """Standard output and error of a running attempt, as far as written now. None if it does not run here."""
        program = self._dispatcher.programs.get(identity[0])
        pieces = self._live.get(identity)
        if program is None or pieces is None:
            return None
        root = self._settings.roots[program.storage]
        stdout, stderr = (grown(root, piece, program.max_output_bytes) for piece in pieces)
        return stdout, stderr

    def _end(self, ending: Ending) -> None:
        if not self._ending.done():
            self._ending.set_result(ending)

    def _fail(self, error: Exception) -> None:
        if not self._ending.done():
            self._ending.set_exception(error)

    async def _guarded(self, loop: Callable[[], Awaitable[None]]) -> None:
        try:
            await loop()
        except WorkerGoneError:
            self._end(Ending.LOST)
        except Exception as error:  # noqa: BLE001 (handed to whoever waits for the session)
            self._fail(error)

    # ----------------------------------------------------------------------------------------------------------- loops

    async def _claim(self) -> None:
        """Claim, and say what is held: after an error, when it is nothing, and now and then.

        The platform then takes back whatever an answer that got lost was about.
        """
        backoff_s, told_at = 0.0, clock_s()
        while True:
            self._changed.clear()
            free, most = self._dispatcher.wanted()
            if self._draining or not most:
                await self._changed.wait()
                continue
            wait_s = _BUSY_CLAIM_S if self._dispatcher.held else _IDLE_CLAIM_S
            await asyncio.sleep(backoff_s)
            held: list[Identity] | None = self._identities()
            if held and not backoff_s and clock_s() - told_at < _TELL_HELD_S:
                held = None
            else:
                told_at = clock_s()
            try:
                self._take(await self._channel.claim(self._worker_id, free, most, wait_s, held))
                backoff_s = 0.0
            except ChannelUnavailableError:
                backoff_s = min(2 * backoff_s or FIRST_BACKOFF_S, MOST_BACKOFF_S)

    def _identities(self) -> list[Identity]:
        """Every attempt of which the platform has not heard the end."""
        return [*self._dispatcher.identities(), *self._collecting.values(), *self._reporter.identities()]

    async def _heartbeat(self) -> None:
        backoff_s = FIRST_BACKOFF_S
        while True:
            asked_at = clock_s()
            dispatcher = self._dispatcher
            try:
                directives = await self._channel.heartbeat(
                    self._worker_id, dispatcher.free, dispatcher.running, self._welcome.heartbeat_s
                )
            except ChannelUnavailableError:
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, MOST_BACKOFF_S, self._welcome.lease_s / 4)
                continue
            backoff_s = FIRST_BACKOFF_S
            self._lease_until = asked_at + directives.lease_s
            self._obey(directives)
            # Told the same again, until it is done, we learn nothing.
            pause_s = _LEAST_HEARTBEAT_S - (0.0 if directives.cancel else clock_s() - asked_at)
            await asyncio.sleep(max(0.0, pause_s))

    async def _watch(self) -> None:
        """Notice a lease that ran out, also while this process or the machine was asleep, and the end of a drain."""
        pause_s = min(1.0, self._welcome.lease_s / 10)
        while (left_s := self._lease_until - clock_s()) > 0:
            if self._draining and self._is_empty():
                self._end(Ending.DRAINED)
            await asyncio.sleep(0.01 if self._draining else min(pause_s, left_s))
        self._end(Ending.LOST)

    def _is_empty(self) -> bool:
        return not (self._dispatcher.held or self._collecting or self._reporter.unsent)

    # ----------------------------------------------------------------------------------------------- from the platform

    def _take(self, batch: Batch) -> None:
        self._forget_idle_programs()
        self._dispatcher.add(batch)
        strange = {i for i, program in batch.programs.items() if program.storage not in self._settings.roots}
        for identity in self._dispatcher.withdraw(lambda identity: identity[0] in strange):
            name = self._dispatcher.programs[identity[0]].storage
            message = f"storage resource {name!r} is not attached to this worker; it has {sorted(self._settings.roots)}"
            self._reporter.add(failed_report(identity, Cause.STAGING, message))
        self._place()

    def _obey(self, directives: Directives) -> None:
        if directives.stop:
            self._end(Ending.LOST)
        if directives.drain:
            self.drain()
        if directives.recall_steps:
            self._recall(set(directives.recall_steps))
        wanted = set(directives.cancel)
        steps = set(directives.cancel_steps)
        if not wanted and not steps:
            return
        for identity in self._dispatcher.withdraw(lambda identity: identity in wanted or identity[0] in steps):
            self._reporter.add(failed_report(identity, Cause.CANCELED, "canceled before it started"))
        self._spawners.broadcast([("cancel", list(wanted)), ("cancel_steps", list(steps))])
        self._changed.set()

    def _recall(self, steps: set[int]) -> None:
        for identity in self._dispatcher.withdraw(lambda identity: identity[0] in steps):
            self._reporter.add(failed_report(identity, Cause.CANCELED, "given back before it started"))
        self._spawners.broadcast([("recall_steps", list(steps))])
        self._changed.set()

    # -------------------------------------------------------------------------------------------- to and from spawners

    def _place(self) -> None:
        messages: dict[int, list[Any]] = {}
        for assignment in self._dispatcher.place():
            slot = assignment.slot
            lines = messages.setdefault(slot.spawner, [])
            known = self._spawners.programs(slot.spawner)
            for step_id in {launch.step_id for launch in assignment.launches} - known:
                known.add(step_id)
                lines.append(("program", program_to_wire(self._dispatcher.programs[step_id], self._fsync)))
            lines.append(("run", slot.number, slot.gpus, [launch_to_wire(launch) for launch in assignment.launches]))
        for spawner, lines in messages.items():
            self._spawners.send(spawner, lines)
        self._changed.set()

    def _forget_idle_programs(self) -> None:
        if len(self._dispatcher.programs) <= _KEPT_PROGRAMS:
            return
        step_ids = self._dispatcher.idle_steps()
        self._dispatcher.forget(step_ids)
        self._spawners.forget(step_ids)

    def _received(self, messages: Sequence[Any]) -> None:
        freed: list[Capacity] = []
        for kind, _, identity, details, *more in messages:
            if kind == "running":
                report = running_report(identity, *details)
                if report.stdout and report.stderr:
                    self._live[identity] = (report.stdout, report.stderr)
                self._reporter.add(report)
                continue
            self._live.pop(identity, None)
            program = self._dispatcher.programs.get(identity[0])
            slot = self._dispatcher.ended(identity, details[6])
            if slot is None or program is None:
                continue
            if slot.request not in freed:
                freed.append(slot.request)
            report = report_from_wire(identity, details, slot.gpus)
            if kind == "collect":
                self._collect(report, program_to_wire(program, self._fsync), more[0])
            else:
                self._reporter.add(report)
        self._place()
        # The platform gives a slot more work once it knows that it is free.
        if any(map(self._dispatcher.starves, freed)):
            self._reporter.hurry()

    def _spawner_died(self, spawner: int, message: str) -> None:
        for identity, gpus in self._dispatcher.lose_spawner(spawner):
            self._reporter.add(failed_report(identity, Cause.INFRASTRUCTURE, message, gpus))
        self._spawners.restart(spawner)
        self._place()

    def _collect(self, report: Report, program: dict[str, Any], directory: str) -> None:
        """Hash and publish much output in a thread; the slot has gone on."""
        identity = (report.step_id, report.index, report.attempt)
        self._reporter.add(Report(*identity, TaskState.COLLECTING, started_at=report.started_at))
        future = asyncio.ensure_future(self._collect_in_thread(report, program, identity, directory))
        self._collecting[future] = identity
        future.add_done_callback(self._collecting.pop)

    async def _collect_in_thread(
        self, report: Report, program: dict[str, Any], identity: Identity, directory: str
    ) -> None:
        loop = asyncio.get_running_loop()
        root = self._settings.roots[program["storage"]]
        try:
            published = await loop.run_in_executor(
                self._threads, collect, directory, program, identity, root, self._worker_id
            )
            ended = report._replace(outputs=tuple(Output(*output) for output in published))
        except CollectError as error:
            ended = report._replace(state=TaskState.FAILED, cause=Cause(error.cause), message=str(error), results=None)
        except Exception as error:  # noqa: BLE001 (an attempt whose end nobody tells would run for ever)
            message = f"outputs could not be collected: {type(error).__name__}: {error}"
            ended = report._replace(state=TaskState.FAILED, cause=Cause.STAGING, message=message, results=None)
        self._reporter.add(ended)
        with contextlib.suppress(OSError):  # the end of the registration removes it
            await loop.run_in_executor(self._threads, remove_tree, directory)


async def _end_all(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel until all have ended: what they wait for may lose a cancellation, and the slots must not stay taken."""
    ended = False
    while not ended:
        for task in tasks:
            task.cancel()
        _, pending = await asyncio.wait(tasks, timeout=_CANCEL_AGAIN_S)
        ended = not pending


def clock_s() -> float:
    """Seconds that go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
