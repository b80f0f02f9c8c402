"""The worker agent: registers, works, registers anew when its lease was lost, and leaves nothing behind.

    agent = Agent(channel, hello, Path("/scratch"))
    await agent.run()          # until drained or stopped

Runs on one event loop and must be started from that loop's thread, which the spawners' parent-death signal is tied to.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import replace
from pathlib import Path

from airavata_scheduler.platform.domain.messages import ChannelUnavailableError, Extent, Hello, Welcome, WorkerGoneError
from airavata_scheduler.worker import cgroups
from airavata_scheduler.worker.abandoned_groups import remove_abandoned
from airavata_scheduler.worker.channel import Channel
from airavata_scheduler.worker.environment import base_environment
from airavata_scheduler.worker.leftovers import Scratch
from airavata_scheduler.worker.pool import start_spawner
from airavata_scheduler.worker.reporter import FIRST_BACKOFF_S, MOST_BACKOFF_S
from airavata_scheduler.worker.sandbox import Sandbox, probe_sandbox
from airavata_scheduler.worker.session import Ending, Session, Snapshot, clock_s
from airavata_scheduler.worker.spawners import SpawnerSettings

_GOODBYE_S = 5.0


class Agent:
    """Runs tasks for the platform behind ``channel``.

    ``scratch`` is this agent's own directory on a local disk. ``sandbox`` is found out when it is not given.
    ``fsync`` makes outputs survive a crash of the machine, at the price of speed.
    """

    def __init__(
        self, channel: Channel, hello: Hello, scratch: Path, *, sandbox: Sandbox | None = None, fsync: bool = False
    ) -> None:
        self._channel = channel
        self._hello = hello
        self._scratch_path = scratch
        self._sandbox = sandbox
        self._fsync = fsync
        self._session: Session | None = None
        self._stopping = self._draining = False

    async def run(self) -> None:
        """Work until drained or stopped. Raises SandboxError or ScratchBusyError when this place cannot be used."""
        scratch = Scratch(self._scratch_path)
        groups = cgroups.find_base(scratch.worker)
        try:
            remove_abandoned(scratch.worker)
            scratch.end_leftovers()
            sandbox = self._sandbox or probe_sandbox(start_spawner)
            self._hello = replace(
                self._hello, facts={**self._hello.facts, **sandbox.facts(), "cgroups": sorted(groups)}
            )
            ending = Ending.LOST
            while ending is Ending.LOST and not self._stopping:
                ending = await self._work(scratch, sandbox)
        finally:
            cgroups.remove_base(groups)
            scratch.release()

    def stop(self) -> None:
        """Kill all tasks, give them back and leave."""
        self._stopping = True
        if self._session:
            self._session.stop()

    def drain(self) -> None:
        """Claim nothing more, and leave when everything that was claimed has ended."""
        self._draining = True
        if self._session:
            self._session.drain()

    def snapshot(self) -> Snapshot:
        """What it does now; zeros between two registrations."""
        return self._session.snapshot() if self._session else Snapshot(0, 0, int(self._hello.capacity.cpu), 0)

    def live_output(self, step_id: int, index: int, attempt: int) -> tuple[Extent, Extent] | None:
        """Standard output and error of a running attempt so far; None if it does not run here."""
        return self._session.live_output((step_id, index, attempt)) if self._session else None

    def spawner_pids(self) -> list[int]:
        """The long-lived processes that belong to this agent."""
        return self._session.spawner_pids() if self._session else []

    def __repr__(self) -> str:
        now = self.snapshot()
        return f"Agent({self._hello.name}, running={now.running}/{now.slots}, queued={now.queued})"

    async def _work(self, scratch: Scratch, sandbox: Sandbox) -> Ending:
        registered = await self._register()
        if registered is None:
            return Ending.STOPPED
        asked_at, welcome = registered
        # Again: a worker that waits for the platform has no spawner, so its groups may have been taken for abandoned.
        groups = cgroups.find_base(scratch.worker)
        settings = self._settings(welcome, scratch, sandbox, groups)
        scratch.collects_in(settings.roots.values(), welcome.worker_id)
        session = self._session = Session(self._channel, self._hello, welcome, asked_at, settings, self._fsync)
        if self._draining:
            session.drain()
        try:
            ending = await session.run()
        finally:
            self._session = None
            scratch.remove_incoming()
            scratch.remove_directories()
        if ending is not Ending.LOST:
            await self._say_goodbye(welcome.worker_id)
        return ending

    async def _register(self) -> tuple[float, Welcome] | None:
        backoff_s = FIRST_BACKOFF_S
        while not self._stopping:
            asked_at = clock_s()
            try:
                return asked_at, await self._channel.register(self._hello)
            except ChannelUnavailableError:
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, MOST_BACKOFF_S)
        return None

    async def _say_goodbye(self, worker_id: int) -> None:
        """The platform would find out by itself when the lease ends; telling it is faster."""
        with contextlib.suppress(ChannelUnavailableError, WorkerGoneError, TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await self._channel.goodbye(worker_id)

    def _settings(self, welcome: Welcome, scratch: Scratch, sandbox: Sandbox, groups: cgroups.Base) -> SpawnerSettings:
        roots = {storage.name: storage.root for storage in welcome.storages if storage.kind == "posix"}
        if not roots:
            raise ValueError(f"no storage resource of kind posix is attached to {self._hello.name}; attach one")
        return SpawnerSettings(
            worker_id=welcome.worker_id,
            roots=roots,
            segment_root=roots.get("default") or next(iter(roots.values())),
            scratch=scratch,
            sandbox=sandbox,
            base={**base_environment(os.environ), "HOME": str(Path.home())},
            gpu_ids=self._gpu_ids(),
            cgroups=groups,
        )

    def _gpu_ids(self) -> tuple[int, ...]:
        """Those that the worker itself was given, else numbers from 0."""
        given = self._hello.facts.get("gpu_ids")
        return tuple(given) if given is not None else tuple(range(int(self._hello.capacity.gpu)))
