"""Better plans that follow quick ones: when, and what becomes of what was started meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from service_bench import Bench

from airavata_scheduler.adapters.memory.solver import InProcessSolver
from airavata_scheduler.scheduler_core import Limits, Plan, Snapshot


class Thinker(InProcessSolver):
    """Counts, and waits to be let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Limits] = []
        self.go_on = asyncio.Event()

    async def solve(self, snapshot: Snapshot, now: float, limits: Limits) -> Plan | None:
        self.asked.append(limits)
        await self.go_on.wait()
        return await super().solve(snapshot, now, limits)


async def thinking(n: int = 800, time: str = "10m", **more: Any) -> tuple[Bench, Thinker]:
    """Two experiments of n tasks of which the later is due first, on a machine and a faster one."""
    bench, thinker = Bench(), Thinker()
    bench.thinker = thinker
    await bench.open("local", "fast")
    bench.set("fast", speed=2.0)
    task = {"resources": {"time": time}}
    await bench.submit("calm", n, task=task, deadline="1000h", **more)
    await bench.submit("urgent", n, task=task, deadline=f"{n}m", **more)
    return bench, thinker


async def until_thought(bench: Bench) -> str:
    for _ in range(20):
        await asyncio.sleep(0)
    return str((await bench.service.current_plan())["solver"])


async def test_a_better_plan_follows_the_quick_one_and_counts_what_was_started() -> None:
    bench, thinker = await thinking()
    await bench.look()
    assert (await bench.service.current_plan())["solver"] == "linear"
    launches = await bench.claim()
    assert len(launches) >= 4, "nobody waits for a second thought"
    assert bench.alarms == [], "nor is told of a danger that it may show to be none"
    thinker.go_on.set()
    solver = await until_thought(bench)
    assert solver.startswith("linear+")
    assert len(thinker.asked) == 1
    started = bench.service._book.started
    assert {key: n for key, n in started.items() if n} == {(launches[0].step_id, "local"): len(launches)}


async def test_a_thought_about_what_has_changed_meanwhile_is_dropped() -> None:
    bench, thinker = await thinking()
    await bench.look()
    await bench.submit("third", 4)
    await bench.look()
    thinker.go_on.set()
    assert await until_thought(bench) == "linear"
    bench.service._thoughts._rests_until_s = 0.0
    await bench.look()
    assert (await until_thought(bench)).startswith("linear+"), "the next look thinks again"


@pytest.mark.parametrize(
    ("n", "time"), [(200, "10m"), (800, "10ms")], ids=["a quick plan looked at every task", "soon over"]
)
async def test_second_thoughts_are_for_long_plans_of_many_tasks(n: int, time: str) -> None:
    bench, thinker = await thinking(n, time)
    await bench.look()
    await bench.look()
    await until_thought(bench)
    assert thinker.asked == []


async def test_runtimes_that_nobody_knows_are_not_thought_about() -> None:
    bench, thinker = Bench(), Thinker()
    bench.thinker = thinker
    await bench.open()
    await bench.submit("e", 5_000)
    await bench.look()
    await until_thought(bench)
    assert thinker.asked == []


async def test_a_danger_is_told_even_if_things_change_faster_than_one_can_think() -> None:
    bench, _ = await thinking()
    bench.due_in("urgent", 600.0)
    await bench.look()
    assert bench.alarms == [], "a better plan may show it to be none"
    bench.service._thoughts._unsettled_since_s = bench.clock.monotonic() - 31.0
    await bench.look()
    assert "urgent" in [alarm.experiment for alarm in bench.alarms]
