"""The stores, in memory and on PostgreSQL: budgets, alarms, and what is known of attempts after a restart."""

from __future__ import annotations

from dataclasses import replace
from math import log
from typing import Any

import pytest

from airavata_scheduler.platform.domain.compiled import CompiledStep, ProgramTemplate
from airavata_scheduler.platform.domain.errors import LeaseLostError
from airavata_scheduler.platform.domain.failures import Cause, RetryPolicy
from airavata_scheduler.platform.domain.messages import Report
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.platform.domain.sweep import Sweep
from airavata_scheduler.platform.interfaces import BUDGET_EXHAUSTED, DEADLINE_AT_RISK
from airavata_scheduler.platform.ports.repository import Charge, ReportContext

World = Any  # see conftest.py
STEP = CompiledStep(
    position=0, name="s0", n=10, sweep=Sweep(), foreach=(), fan_out=10, gather=(), after=(), references={},
    program=ProgramTemplate(command=("true",)), retry=RetryPolicy(), priority=0, time_s=None,
)  # fmt: skip


async def test_statistics_count_what_succeeded_and_what_failed_by_its_own_fault(world: World) -> None:
    (a,) = await world.submit("e", STEP)
    keys = await world.claim(a, 6)
    await world.end(keys[:3])
    await world.end(keys[3:4], TaskState.FAILED, cause=Cause.EXIT_CODE)
    await world.end(keys[4:5], TaskState.FAILED, cause=Cause.WORKER_LOST)
    (found,) = await world.tasks.attempt_statistics([a])
    assert (found.step_id, found.resource, found.attempts, found.failed, found.n) == (a, "local", 4, 1, 3)
    assert (found.log_sum, found.log_square_sum, found.largest_s) == (pytest.approx(3 * log(1.0)), 0.0, 1.0)
    assert await world.tasks.attempt_statistics([]) == []


async def test_another_budget_comes_with_going_on(world: World) -> None:
    (a,) = await world.submit("e", STEP)
    reason = await world.experiments.pause("e", "no money", kind=BUDGET_EXHAUSTED, data={"budget": 1.0})
    assert str(reason) == "PAUSED"
    assert await world.claim(a, 1) == []
    await world.experiments.resume("e", 2.5)
    (opened,) = (await world.tasks.planning_state()).steps
    assert opened.budget == 2.5
    assert len(await world.claim(a, 1)) == 1


async def test_another_budget_comes_although_it_goes_on_already(world: World) -> None:
    await world.submit("e", STEP)
    await world.experiments.pause("e", "no money")
    await world.experiments.resume("e", 2.5)
    await world.experiments.resume("e", 4.0)
    assert (await world.tasks.planning_state()).steps[0].budget == 4.0


async def test_another_deadline_comes_with_going_on(world: World) -> None:
    (a,) = await world.submit("e", STEP)
    await world.experiments.pause("e", "too late")
    await world.experiments.resume("e", deadline=2e9)
    (opened,) = (await world.tasks.planning_state()).steps
    assert (opened.deadline, opened.budget, opened.hard_deadline) == (2e9, None, False)
    await world.experiments.pause("e", "again")
    await world.experiments.resume("e")
    assert (await world.tasks.planning_state()).steps[0].deadline == 2e9
    assert len(await world.claim(a, 1)) == 1


async def test_a_warning_is_written_once_and_only_of_what_runs(world: World) -> None:
    await world.submit("e", STEP)
    await world.submit("other", replace(STEP))
    assert await world.experiments.warn("e", DEADLINE_AT_RISK, "late", {"risk": 1.0})
    assert not await world.experiments.warn("e", DEADLINE_AT_RISK, "late", {"risk": 1.0})
    await world.experiments.pause("other", "lunch")
    assert not await world.experiments.warn("other", DEADLINE_AT_RISK, "late", {"risk": 1.0})


async def test_nothing_that_costs_starts_once_the_budget_is_spent(world: World) -> None:
    (a,) = await world.submit("e", STEP)
    await world.experiments.pause("e", "")
    await world.experiments.resume("e", 1.0)
    charge = Charge(3600.0, 0.0)
    first = await world.claim(a, 1)
    report = Report(*first[0], state=TaskState.SUCCEEDED, started_at=1e9, wall_s=1.0)
    await world.tasks.report(world.worker, [report], {a: ReportContext("e", RetryPolicy(), 1.0, 0.0)}, charge)
    assert (await world.usage("e"))[0] == pytest.approx(1.0)
    assert len(await world.claim(a, 1)) == 1, "the resource itself is free"
    await set_price(world, 3600.0)
    assert await world.claim(a, 1) == []
    await world.experiments.pause("e", "")
    await world.experiments.resume("e", 1.5)
    assert len(await world.claim(a, 1)) == 1


async def test_what_is_read_is_paid_for_by_each_attempt_that_started(world: World) -> None:
    a, b = await world.submit("e", STEP, replace(STEP, position=1))
    keys = [*await world.claim(a, 2), *await world.claim(b, 1)]
    moments = (1e9, 0.0, 1e9)
    reports = [
        Report(*key, state=TaskState.FAILED, started_at=started_at, wall_s=0.0, cause=Cause.ENVIRONMENT)
        for key, started_at in zip(keys, moments, strict=True)
    ]
    contexts = {i: ReportContext("e", RetryPolicy(), 1.0, 0.0) for i in (a, b)}
    await world.tasks.report(world.worker, reports, contexts, Charge(3600.0, 0.0, {a: 0.25}))
    assert (await world.usage("e"))[0] == pytest.approx(0.25)


async def test_a_price_for_reading_is_a_price(world: World) -> None:
    (a,) = await world.submit("e", STEP)
    await world.experiments.pause("e", "")
    await world.experiments.resume("e", 1.0)
    (key,) = await world.claim(a, 1)
    report = Report(*key, state=TaskState.SUCCEEDED, started_at=1e9, wall_s=0.0)
    contexts = {a: ReportContext("e", RetryPolicy(), 1.0, 0.0)}
    await world.tasks.report(world.worker, [report], contexts, Charge(0.0, 0.0, {a: 1.0}))
    await set_price(world, 3.0, "egress_price_per_gb")
    assert await world.claim(a, 1) == []


async def test_queue_waits_are_kept_with_the_resource_under_the_fence(world: World) -> None:
    seen = {"live": {"n": 2, "total": 0.5, "squares": 0.25, "largest": 3.5}}
    await world.tasks.keep_queue_waits(world.fence, {"local": seen, "gone": seen})
    (resource,) = (await world.tasks.planning_state()).resources
    assert (resource.name, resource.queue_waits) == ("local", seen)
    with pytest.raises(LeaseLostError):
        await world.tasks.keep_queue_waits(replace(world.fence, epoch=world.fence.epoch - 1), {"local": {}})
    assert (await world.tasks.planning_state()).resources[0].queue_waits == seen


async def set_price(world: World, price: float, of: str = "price_per_hour") -> None:
    if hasattr(world, "engine"):
        await world._run(f"UPDATE resources SET {of} = :price", price=price)
    else:
        for row in world.database.resources.values():
            setattr(row, of, price)
