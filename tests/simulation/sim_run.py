"""One simulated run: experiments come, things fail, users interfere; then the faults stop and everything must end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sim_experiments import Nature, draw_experiment
from sim_faults import draw_odds
from sim_platform import ROLES, Platform
from sim_worker import SimWorker

from airavata_scheduler.adapters.memory.clock import VirtualLoop
from airavata_scheduler.platform.domain.errors import AiravataError
from airavata_scheduler.platform.domain.messages import ChannelUnavailableError, StorageLocation
from airavata_scheduler.platform.domain.states import ExperimentState

PATIENCE_S = 900.0


@dataclass(frozen=True)
class Summary:
    """What a run was made of."""

    tasks: int
    calls: int
    checks: int
    plans: int
    virtual_s: float


def simulate(seed: int) -> Summary:
    """Run one seed to its end. AssertionError if a rule was broken."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(_Run(seed, loop).run())
    finally:
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        loop.close()


class _Run:
    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        self.loop = loop
        self.rng = random.Random(seed)
        self.natures: dict[tuple[str, str], Nature] = {}
        self.odds = draw_odds(self.rng)
        self.experiments: list[str] = []
        self.troubles = 0

    async def run(self) -> Summary:
        self.platform = platform = Platform(self.rng, self.odds)
        await platform.workers.ensure_storage(StorageLocation("default", "memory", ""))
        for role in ROLES:
            await platform.start(role)
        count = self.rng.choice((2, 3))
        places = [("w0", "west"), ("w1", "west"), ("w2", "east")]
        self.workers = [SimWorker(platform, self.natures, *places[i]) for i in range(count)]
        for worker in self.workers:
            worker.start()
        for _ in range(self.rng.choice((4, 8, 16))):
            await asyncio.sleep(self.rng.expovariate(1.0))
            await self.rng.choice(self._events())()
            self._must_be_sound()
        await self._calm_down()
        await self._must_finish()
        tasks = sum(len(step.tasks) for step in platform.database.steps.values())
        return Summary(tasks, platform.calls, platform.watch.checks, platform.solver.solved, self.loop.time())

    def _must_be_sound(self) -> None:
        if self.platform.failures:
            raise self.platform.failures[0]
        self.platform.watch.check()

    # ---------------------------------------------------------------------------------------------------------- events

    def _events(self) -> list[Callable[[], Awaitable[None]]]:
        commands = [self._cancel, self._pause, self._resume, self._retry, self._retry]
        return [*([self._submit] * 3), *commands, self._kill_worker, self._freeze_worker, self._replace, self._restart,
                self._kill_old, self._drain, self._outage, self._outage, self._set_clock]  # fmt: skip

    async def _submit(self) -> None:
        new, natures = draw_experiment(self.rng, f"e{len(self.experiments)}")
        self.natures.update(natures)
        self.experiments.append(new.id)
        await self.platform.experiments.insert(new)

    async def _command(self, method: str) -> None:
        """A user's command; whether it is refused, lost or carried out is none of the simulation's business."""
        if self.experiments:
            experiment = self.rng.choice(self.experiments)
            try:
                await self.platform.call("experiment-orchestrator", method, "admin", experiment)
            except (AiravataError, ChannelUnavailableError):
                self.troubles += 1

    async def _cancel(self) -> None:
        await self._command("cancel")

    async def _pause(self) -> None:
        await self._command("pause")

    async def _resume(self) -> None:
        await self._command("resume")

    async def _retry(self) -> None:
        await self._command("retry")

    async def _kill_worker(self) -> None:
        worker = self.rng.choice(self.workers)
        worker.die()
        if self.rng.random() < 0.7:
            await asyncio.sleep(self.rng.uniform(0.0, 3.0))
            worker.start()

    async def _freeze_worker(self) -> None:
        self.rng.choice(self.workers).freeze(self.rng.uniform(1.0, 20.0))

    async def _drain(self) -> None:
        living = [view.id for view in await self.platform.queries.workers()]
        if living:
            try:
                await self.platform.call("worker-lifecycle", "drain", "admin", self.rng.choice(living))
            except (AiravataError, ChannelUnavailableError):
                self.troubles += 1

    async def _outage(self) -> None:
        """Of the database: shorter or longer than a lease, sometimes longer than workers are let go on."""
        self.platform.outage.begin(self.rng.choice((0.3, 2.0, 8.0, 20.0, 80.0)) * self.rng.random())

    async def _set_clock(self) -> None:
        """That of the database."""
        self.platform.clock.advance(self.rng.choice((-100.0, -3.0, 3.0, 1000.0)) * self.rng.random())

    async def _replace(self) -> None:
        """A second instance starts while the first goes on."""
        await self.platform.start(self.rng.choice(ROLES))

    async def _restart(self) -> None:
        """An instance dies, and its successor starts a moment later."""
        role = self.rng.choice(ROLES)
        self.platform.current(role).kill()
        await asyncio.sleep(self.rng.uniform(0.0, 5.0))
        await self.platform.start(role)

    async def _kill_old(self) -> None:
        for instances in self.platform.instances.values():
            for instance in instances[:-1]:
                instance.kill()

    # ------------------------------------------------------------------------------------------------------------- end

    async def _calm_down(self) -> None:
        self.odds.stop()
        self.platform.outage.end()
        await self._kill_old()
        for role in ROLES:
            if not self.platform.current(role).alive:
                await self.platform.start(role)
        # A resource that some experiments deny must not be the only one.
        for worker in self.workers:
            worker.frozen_until = 0.0
            worker.start()
        await asyncio.sleep(10.0)
        for name in self.experiments:
            if self.platform.database.experiments[name].status is ExperimentState.PAUSED:
                await self.platform.experiments.resume(name)

    async def _must_finish(self) -> None:
        """S1, S5 and S6: without faults everything ends, and nothing canceled is still held."""
        until = self.loop.time() + PATIENCE_S
        database = self.platform.database
        while open_ones := [
            e for e in self.experiments if not database.experiments[e].status.finished or await self._held(e)
        ]:
            self._must_be_sound()
            assert self.loop.time() < until, "\n".join(map(self._describe, open_ones))
            await asyncio.sleep(1.0)
        self._must_be_sound()

    async def _held(self, experiment: str) -> int:
        return await self.platform.experiments.holding(experiment)

    def _describe(self, name: str) -> str:
        row = self.platform.database.experiments[name]
        steps = [
            f"  {step.compiled.name}: rest {step.rest_state.name}, gate {step.gate_open}, next {step.next_index}, "
            f"{ {i: (task.state.name, task.attempt, task.worker_id) for i, task in sorted(step.tasks.items())} }"
            for step in row.steps
        ]
        book = self.platform.current("task-scheduler").service._book
        shares = [
            (s.group, s.resource, s.places, s.burst, s.quota, book.started[int(s.group), s.resource])
            for s in book.plan.shares
        ]
        plan = f"  ready {book.ready}, active {dict(book.active)}, workers {list(book.workers)}, shares {shares}"
        return "\n".join([f"{name} is {row.status} and does not end", *steps, plan])
