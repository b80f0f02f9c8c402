"""What the planner is told of steps: whatever it counts with, ready tasks start somewhere or somebody hears why not."""

from __future__ import annotations

from dataclasses import replace

from service_bench import NOW, Bench

from airavata_scheduler.platform.domain.failures import Cause
from airavata_scheduler.platform.domain.messages import Hello, Report
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.platform.interfaces import BUDGET_EXHAUSTED, DEADLINE_AT_RISK

_GB = 10**9


async def test_what_is_too_little_for_the_plan_pauses_the_experiment() -> None:
    """A plan counts with repeats of failures; without them the rest would seem enough, and nothing would start."""
    bench = await Bench().open()
    bench.set("local", price_per_hour=3600.0)
    task = {"resources": {"time": "10s"}, "retry": {"max_attempts": 100, "backoff_s": 0}}
    await bench.submit("e", 10, task=task, budget=21.0)
    await bench.end(await bench.looked("local", most=1), 10.0)
    failed = [
        Report(x.step_id, x.index, x.attempt, TaskState.FAILED, started_at=NOW, wall_s=0.05, cause=Cause.EXIT_CODE)
        for x in await bench.looked("local", most=1)
    ]
    await bench.service.report(bench.worker_of["local"], failed)
    assert not await bench.looked("local")
    assert {(alarm.kind, alarm.experiment) for alarm in bench.alarms} == {(BUDGET_EXHAUSTED, "e")}
    assert bench.alarms[0].data["next_task"] > 21.0 - bench.cost("e") > 10.0


async def test_money_set_aside_for_tasks_claimed_ahead_pays_for_them() -> None:
    bench = await Bench().open()
    bench.set("local", price_per_hour=3600.0)
    await bench.submit("e", 10, task={"resources": {"time": "10s"}}, budget=85.0)
    await bench.look()
    held = (await bench.service.claim(bench.worker_of["local"], Capacity(cpu=8), 8, 0.0)).launches
    assert len(held) == 8
    await bench.look()
    (left,) = (await bench.service.current_plan())["unplaced"]
    assert left["count"] == 2


async def test_memory_that_was_seen_never_rules_out_the_workers_a_step_may_use() -> None:
    bench = await Bench().open("small", "big")
    for row in bench.database.workers.values():
        memory = (16 if row.hello.resource == "small" else 64) * _GB
        row.hello = replace(row.hello, capacity=Capacity(cpu=4, memory_bytes=memory))
    await bench.submit("e", 20, allow=["small"], task={"resources": {"time": "10s", "memory": "8GB"}})

    async def claim() -> int:
        await bench.look()
        free = Capacity(cpu=4, memory_bytes=16 * _GB)
        launches = (await bench.service.claim(bench.worker_of["small"], free, 4, 0.0)).launches
        await bench.end(launches, 10.0, "small", peak_memory_bytes=14 * _GB)
        return len(launches)

    assert [await claim() for _ in range(4)] == [2, 1, 1, 1]


async def test_tasks_on_a_draining_worker_hold_no_place_of_its_replacement() -> None:
    bench = await Bench().open()
    await bench.submit("e", 600, task={"resources": {"time": "1h"}})
    assert len(await bench.looked("local")) == 4
    bench.database.workers[bench.worker_of["local"]].state = "draining"
    bench.worker_of["local"] = await bench.workers.register_worker(
        Hello("w2", "local", "host2", "node2", 1, "0", Capacity(cpu=4)), 1e9
    )
    assert len(await bench.looked("local")) == 4


async def test_the_priority_of_a_step_stands_in_place_of_its_experiments() -> None:
    bench = await Bench().open()
    hour = {"resources": {"time": "1h"}}
    higher = await bench.submit("a", 600, task={"priority": 5, **hour})
    await bench.submit("b", 600, priority=3, task=hour)
    assert {launch.step_id for launch in await bench.looked("local")} == {higher}


async def test_of_hundreds_of_steps_none_that_is_ready_waits_for_one_that_is_not() -> None:
    bench = await Bench().open()
    nowhere = {"command": ["true"], "resources": {"gpu": 1}}
    tasks = {"x": nowhere, "b": {"command": ["true"], "depends_on": ["x"]}, "a": {"command": ["true"]}}
    for i in range(112):
        await bench.submit(f"e{i}", 0, tasks=tasks)
    assert len(await bench.looked("local")) == 4


async def test_a_deadline_of_tasks_without_a_place_is_in_danger_once_half_of_the_time_is_over() -> None:
    bench = await Bench().open()
    await bench.submit("e", 40, task={"resources": {"time": "10s"}}, deadline=600)
    bench.set("local", enabled=False)
    await bench.look()
    assert not bench.alarms
    bench.database.experiments["e"].submitted_at = bench.clock.time() - 400.0
    bench.due_in("e", 200.0)
    await bench.look()
    assert [alarm.kind for alarm in bench.alarms] == [DEADLINE_AT_RISK]
    assert "40 of its tasks have no place" in bench.alarms[0].reason
    assert "bringing back local" in bench.alarms[0].reason


async def test_no_worker_is_kept_free_for_a_large_task_in_its_back_off() -> None:
    bench = await Bench().open()
    later = {"max_attempts": 9, "backoff_s": 900}
    large = await bench.submit("large", 1, task={"resources": {"cpu": 4, "time": "60s"}, "retry": later}, priority=9)
    (first,) = await bench.looked("local")
    report = Report(large, first.index, 1, TaskState.FAILED, started_at=NOW, wall_s=1.0, cause=Cause.EXIT_CODE)
    await bench.service.report(bench.worker_of["local"], [report])
    small = await bench.submit("small", 40, task={"resources": {"time": "60s"}})
    assert [launch.step_id for launch in await bench.looked("local")] == [small] * 4


async def test_what_a_task_has_run_already_is_not_expected_once_more() -> None:
    bench = await Bench().open()
    tasks = {
        "long": {"command": ["true"], "resources": {"time": "100m"}},
        "last": {"command": ["true"], "depends_on": ["long"], "resources": {"time": "10m"}},
    }
    await bench.submit("e", 0, tasks=tasks)
    (first,) = await bench.looked("local")
    report = Report(first.step_id, first.index, 1, TaskState.RUNNING, started_at=bench.clock.time() - 3600.0)
    await bench.service.report(bench.worker_of["local"], [report])
    await bench.submit("other", 1)  # for a new plan
    await bench.look()
    finish_s = {f["experiment"]: f["finish_s"] for f in (await bench.service.current_plan())["forecasts"]}
    assert 45 * 60 < finish_s["e"] < 55 * 60
