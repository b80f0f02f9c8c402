"""Who comes late gets a fair part as tasks end one by one: a machine is never its first user's for good."""

from __future__ import annotations

from typing import Any

import pytest
from service_bench import Bench

from airavata_scheduler.adapters.memory.solver import InProcessSolver
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.scheduler_core import Limits, Plan, Snapshot

MINUTE = {"resources": {"time": "1m"}}
WHOLE = {"resources": {"time": "1m", "cpu": 4}}


@pytest.mark.parametrize(("sweep", "task", "n", "ends"), [
    (1_000_000, MINUTE, 10, 1),  # a fluid
    (400, MINUTE, 10, 1),  # rehearsed
    (1_000_000, WHOLE, 1, 4),  # needs all that the sweep holds
])  # fmt: skip
async def test_who_comes_late_starts_as_soon_as_there_is_room(sweep: int, task: Any, n: int, ends: int) -> None:
    bench = await Bench().open()
    await bench.submit("sweep", sweep, project="greedy", task=MINUTE)
    await bench.look()
    held = await bench.claim()
    assert len(held) == 4
    late = await bench.submit("small", n, project="modest", task=task)
    await bench.look()
    running = list(held)
    for ended in range(1, ends + 1):
        await bench.end(running[:1], 60.0)
        del running[:1]
        grant = await bench.service.claim(bench.worker_of["local"], Capacity(cpu=4 - len(running)), 4, 0.0)
        started = any(launch.step_id == late for launch in grant.launches)
        assert started == (ended == ends)
        running += grant.launches
        await bench.look()


async def test_large_and_small_tasks_of_two_projects_alternate() -> None:
    bench = await Bench().open()
    small = await bench.submit("small", 1_000_000, project="a", task=MINUTE)
    large = await bench.submit("large", 1_000_000, project="b", task=WHOLE)
    seen = []
    await bench.look()
    for _ in range(6):
        launches = await bench.claim()
        assert launches
        seen.append({launch.step_id for launch in launches})
        # What is decided while these run is what follows them.
        await bench.look()
        await bench.end(launches, 60.0)
    assert seen == [{small}, {large}] * 3


class LateSolver(InProcessSolver):
    """Gives up whatever takes a solver."""

    async def solve(self, snapshot: Snapshot, now: float, limits: Limits) -> Plan | None:
        return await super().solve(snapshot, now, limits) if limits.solver == "greedy" else None


async def test_new_work_is_served_although_every_solve_is_given_up() -> None:
    bench = Bench()
    bench.solver = LateSolver()
    await bench.open()
    step_id = await bench.submit("e", 8, task=MINUTE)
    assert {launch.step_id for launch in await bench.looked("local")} == {step_id}
    assert (await bench.service.current_plan())["solver"] == "greedy"
