"""The scheduler's service with the planner behind it: budgets, deadlines, explanations, estimates and fairness."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter
from typing import Any

import pytest
from service_bench import NOW, Bench

from airavata_scheduler.adapters.memory.leases import MemoryLeases
from airavata_scheduler.adapters.memory.queries import MemoryQueries
from airavata_scheduler.adapters.memory.solver import InProcessSolver
from airavata_scheduler.platform.domain.compile import compile_document
from airavata_scheduler.platform.domain.document import parse_document
from airavata_scheduler.platform.domain.messages import Output
from airavata_scheduler.platform.domain.states import ExperimentState
from airavata_scheduler.platform.interfaces import BUDGET_EXHAUSTED, DEADLINE_AT_RISK, DEADLINE_OUT_OF_REACH
from airavata_scheduler.platform.ports.repository import PlanningState
from airavata_scheduler.platform.services.explain import Explainer
from airavata_scheduler.platform.services.preview import Previewer
from airavata_scheduler.scheduler_core import Limits, Plan, Snapshot

TEN_SECONDS = {"resources": {"time": "10s"}}


async def test_a_budget_is_overspent_by_no_more_than_what_ran_when_it_was_reached() -> None:
    bench = await Bench().open()
    bench.set("local", price_per_hour=3600.0)
    await bench.submit("e", 500, task={"resources": {"time": "1s"}}, budget=20.0)
    while not bench.alarms:
        await bench.look()
        launches = await bench.claim()
        before = bench.cost("e")
        assert not launches or before < 20.0
        # Every task takes three times as long as its user said.
        await bench.end(launches, 3.0)
        assert bench.cost("e") <= max(before, 20.0 + 3.0 * len(launches))
    assert bench.alarms[0].kind == BUDGET_EXHAUSTED
    assert "budget of 20" in bench.alarms[0].reason
    assert bench.cost("e") > 20.0 - 3.0
    assert await bench.claim() == ()


async def test_nothing_starts_that_would_end_after_a_hard_deadline() -> None:
    bench = await Bench().open("local", "slow")
    bench.set("slow", speed=0.1)
    await bench.submit("e", 40, task=TEN_SECONDS, deadline=60, hard_deadline=True)
    await bench.look()
    assert await bench.claim("slow") == (), "a task takes 100 s there"
    launches = await bench.claim()
    assert launches
    (left,) = (await bench.service.current_plan())["unplaced"]
    assert any("hard deadline" in reason for reason in left["reasons"])
    await bench.end(launches, 10.0)
    bench.due_in("e", 9.0)
    await bench.look()
    assert await bench.claim() == ()
    (alarm,) = [alarm for alarm in bench.alarms if alarm.kind == DEADLINE_OUT_OF_REACH]
    assert (alarm.experiment, alarm.data["ready"]) == ("e", 40 - len(launches))
    assert re.search("[89] s are left until its hard deadline, and a task is expected to take 10 s", alarm.reason)


async def test_an_experiment_is_paused_for_its_hard_deadline_once_nothing_of_it_runs() -> None:
    bench = await Bench().open()
    await bench.submit("e", 40, task=TEN_SECONDS, deadline=60, hard_deadline=True)
    await bench.look()
    launches = await bench.claim()
    bench.due_in("e", -5.0)
    await bench.look()
    assert DEADLINE_OUT_OF_REACH not in {alarm.kind for alarm in bench.alarms}
    await bench.end(launches, 10.0)
    await bench.look()
    (alarm,) = [alarm for alarm in bench.alarms if alarm.kind == DEADLINE_OUT_OF_REACH]
    assert "its hard deadline passed 5 s ago" in alarm.reason


async def test_a_deadline_that_is_not_hard_stops_nothing() -> None:
    bench = await Bench().open()
    await bench.submit("e", 40, task=TEN_SECONDS, deadline=60)
    bench.due_in("e", -5.0)
    await bench.look()
    assert await bench.claim()
    assert [alarm.kind for alarm in bench.alarms] == [DEADLINE_AT_RISK]


async def test_an_unknown_runtime_is_no_reason_to_start_nothing() -> None:
    bench = await Bench().open()
    await bench.submit("e", 40, deadline=30, hard_deadline=True)
    await bench.look()
    assert await bench.claim()
    assert not bench.alarms


async def test_the_store_itself_starts_nothing_that_costs_once_the_budget_is_spent() -> None:
    bench = await Bench().open("local", "free")
    bench.set("local", price_per_hour=1.0)
    step_id = await bench.submit("e", 10, budget=5.0)
    bench.database.experiments["e"].cost = 5.0
    fence = await MemoryLeases(bench.database).take("task-scheduler", "test", 1e9)
    assert await bench.tasks.claim(fence, bench.worker_of["local"], [(step_id, 1)]) == []
    assert len(await bench.tasks.claim(fence, bench.worker_of["free"], [(step_id, 1)])) == 1


async def test_what_runs_is_committed_before_it_is_charged() -> None:
    bench = await Bench().open()
    bench.set("local", price_per_hour=3600.0)
    await bench.submit("e", 100, task={"resources": {"time": "10s"}}, budget=25.0)
    await bench.look()
    assert len(await bench.claim()) == 2, "each is expected to cost 10"
    await bench.look()
    assert await bench.claim() == ()
    assert bench.alarms == [], "they may cost less than expected"


async def test_what_tasks_read_is_committed_and_charged_where_it_costs() -> None:
    bench = await Bench().open("near", "far")
    bench.set("far", egress_price_per_gb=2.0)
    make = {"command": ["true"], "task_inputs": {"X": "1..20"}, "task_outputs": {"OUT": "out"}, "deny": ["far"]}
    use = {"command": ["true"], "foreach": ["make"], "task_inputs": {"IN": "${make.OUT}"}, "deny": ["near"]}
    await bench.submit("e", 0, tasks={"make": make, "use": use}, budget=6.0)
    made = Output("OUT", "key", 10**9, "ff")
    while launches := (await bench.looked("near", most=20)):
        await bench.end(launches, 1.0, "near", outputs=(made,))
    launches = await bench.looked("far")
    assert len(launches) == 3, "each reads 1 GB for 2"
    assert await bench.looked("far") == ()
    assert bench.alarms == [], "they may fail before they read"
    await bench.end(launches, 1.0, "far")
    assert bench.cost("e") == pytest.approx(6.0)
    await bench.look()
    assert [alarm.kind for alarm in bench.alarms] == [BUDGET_EXHAUSTED]


async def test_a_deadline_in_danger_is_announced_once_and_only_on_good_grounds() -> None:
    bench = await Bench().open()
    await bench.submit("known", 100, task={"resources": {"time": "1m"}}, deadline="10m")
    await bench.submit("unknown", 100, deadline="10m")
    await bench.submit("easy", 4, task={"resources": {"time": "1m"}}, deadline="10h")
    await bench.look()
    await bench.look()
    assert [(alarm.kind, alarm.experiment) for alarm in bench.alarms] == [(DEADLINE_AT_RISK, "known")]
    assert bench.alarms[0].data["expected_finish"] > bench.alarms[0].data["deadline"]
    assert any("more workers on local" in text for text in bench.alarms[0].data["helps"])


@pytest.mark.parametrize(
    ("cause", "obstacle", "lift"),
    [
        ("cut_off", {"enabled": False}, {"enabled": True}),
        ("budget", {"price_per_hour": 3600.0}, {"price_per_hour": 3.6}),
    ],
)
async def test_lifting_the_named_obstacle_of_a_resource_makes_the_task_run(
    cause: str, obstacle: dict[str, Any], lift: dict[str, Any]
) -> None:
    bench = await Bench().open()
    step_id = await bench.submit("e", 2, task={"resources": {"time": "10s"}}, budget=1.0)
    bench.set("local", **obstacle)
    found = await bench.explained(step_id)
    assert [verdict["cause"] for verdict in found["verdicts"]] == [cause]
    assert not found["verdicts"][0]["feasible"]
    assert found["unplaced"] == 2
    assert await bench.claim() == ()
    bench.set("local", **lift)
    found = await bench.explained(step_id)
    assert (found["verdicts"][0]["cause"], found["position"]) == ("chosen", 0)
    assert len(await bench.claim()) == 2


async def test_lifting_a_denial_or_a_size_makes_the_task_run() -> None:
    bench = await Bench().open()
    denied = await bench.submit("denied", 1, deny=["local"])
    large = await bench.submit("large", 1, task={"resources": {"cpu": 5}})
    assert (await bench.explained(denied))["verdicts"][0]["cause"] == "denied"
    found = (await bench.explained(large))["verdicts"][0]
    assert (found["cause"], found["dimension"], found["amount"]) == ("too_large", "cpu", 1.0)
    await bench.submit("allowed", 1)
    await bench.submit("small", 1, task={"resources": {"cpu": 5 - found["amount"]}})
    started: Counter[int] = Counter()
    for _ in range(3):
        await bench.look()
        launches = await bench.claim()
        started.update(launch.step_id for launch in launches)
        await bench.end(launches, 1.0)
    names = {bench.database.steps[step_id].experiment for step_id in started}
    assert names == {"allowed", "small"}


async def test_sentences_of_explain_come_from_the_plan() -> None:
    bench = await Bench().open("local", "east")
    bench.set("east", enabled=False)
    step_id = await bench.submit("e", 50, deadline="1h", budget=9.0)
    await bench.look()
    runtime = (await bench.explained(step_id))["runtime"]
    explainer = Explainer(MemoryQueries(bench.database), bench.clock, bench.service.explain)
    found = await explainer.explain("e", "t", 7)
    first = await explainer.explain("e", "t", None)
    assert (found.state, found.position, first.position) == ("READY", 7, 0)
    assert first.expected_start is not None
    assert found.expected_start is not None
    # Seven before it on four places: it starts in the second round.
    assert found.expected_start - first.expected_start == pytest.approx(runtime["mean_s"])
    assert "4 places on local" in found.summary
    assert {v.resource: v.feasible for v in found.resources} == {"local": True, "east": False}
    assert any("nothing was seen yet" in reason for reason in found.reasons)
    assert any("deadline" in reason for reason in found.reasons)
    await bench.end(await bench.claim(), 5.0, peak_memory_bytes=3 * 10**8)
    await bench.look()
    found = await explainer.explain("e", "t", None)
    assert any("from 4 finished attempts" in reason for reason in found.reasons)
    assert any("the most in 4 attempts was 0.3 GB" in reason for reason in found.reasons)


async def test_who_is_paused_or_canceled_is_told_why() -> None:
    bench = await Bench().open()
    await bench.submit("e", 3)
    explainer = Explainer(MemoryQueries(bench.database), bench.clock, bench.service.explain)
    await bench.experiments.pause("e", "paused by ada")
    told = [await explainer.explain("e", *part) for part in ((None, None), ("t", None), ("t", 0))]
    assert [found.state for found in told] == ["PAUSED", "PAUSED", "READY"]
    assert {found.summary for found in told} == {"paused by ada; nothing of the experiment is started"}
    assert {found.remedy for found in told} == {"airavata experiment resume e"}
    await bench.experiments.cancel("e", "canceled by ada")
    told = [await explainer.explain("e", *part) for part in ((None, None), ("t", 0))]
    assert {(found.state, found.summary) for found in told} == {("CANCELED", "canceled by ada")}


async def test_no_end_is_promised_while_there_is_no_place() -> None:
    bench = await Bench().open("local", "east")
    await bench.submit("e", 1)
    for name in ("local", "east"):
        bench.set(name, enabled=False)
    await bench.look()
    explainer = Explainer(MemoryQueries(bench.database), bench.clock, bench.service.explain)
    found = await explainer.explain("e", "t", 0)
    assert "no place" in found.summary
    assert found.remedy
    assert not [reason for reason in found.reasons if "expected to end" in reason]


async def test_estimates_survive_a_restart_of_the_scheduler() -> None:
    bench = await Bench().open()
    step_id = await bench.submit("e", 100)
    for _ in range(5):
        await bench.look()
        await bench.end(await bench.claim(), 2.0)
    learnt = (await bench.explained(step_id))["runtime_on"]["local"]
    assert learnt["n"] == 20
    assert 1.5 < learnt["mean_s"] < 4.0
    await bench.restart()
    assert (await bench.explained(step_id))["runtime_on"]["local"] == pytest.approx(learnt)


async def test_a_sweep_of_a_million_does_not_keep_ten_tasks_waiting() -> None:
    bench = await Bench().open()
    await bench.submit("sweep", 1_000_000, project="greedy", task={"resources": {"time": "1m"}})
    await bench.look()
    await bench.end(await bench.claim(), 60.0)
    small = await bench.submit("small", 10, project="modest", task={"resources": {"time": "1m"}})
    rounds = 0
    while not bench.database.experiments["small"].status.finished:
        await bench.look()
        launches = await bench.claim()
        assert len(launches) == 4
        if rounds < 4:
            assert any(launch.step_id == small for launch in launches)
        await bench.end(launches, 60.0)
        rounds += 1
    # Half of four places: ten tasks in five rounds, and one that was under way.
    assert rounds <= 6


class CountingSolver(InProcessSolver):
    """The solver, and how often it was asked."""

    solves = 0

    async def solve(self, snapshot: Snapshot, now: float, limits: Limits) -> Plan | None:
        self.solves += 1
        return await super().solve(snapshot, now, limits)


async def test_another_plan_is_made_only_when_something_changed() -> None:
    bench = await Bench().open()
    solver = bench.solver = CountingSolver()
    await bench.restart()
    await bench.submit("e", 1000, task={"resources": {"time": "10s"}})
    look = bench.service._look
    for _ in range(5):
        await look()
    assert solver.solves == 1
    await bench.end(await bench.claim(), 10.0)
    await look()
    assert solver.solves == 1, "a few tasks fewer, as long as expected"
    bench.set("local", price_per_hour=1.0)
    await look()
    assert solver.solves == 2
    await bench.submit("f", 1)
    await look()
    assert solver.solves == 3
    for _ in range(10):
        await bench.end(await bench.claim(), 40.0)
    await look()
    assert solver.solves == 4, "tasks take four times as long as their user said"


async def test_many_changes_at_once_are_looked_at_together() -> None:
    bench = await Bench().open()
    looks = 0
    state = bench.tasks.planning_state

    async def counted() -> PlanningState:
        nonlocal looks
        looks += 1
        return await state()

    bench.tasks.planning_state = counted  # type: ignore[method-assign]
    await bench.submit("e", 10)
    loop = asyncio.create_task(bench.service.run())
    for _ in range(200):
        await bench.service.wake()
        await asyncio.sleep(0)
    loop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loop
    assert 1 <= looks <= 3


async def test_a_preview_plans_beside_what_runs_and_stores_nothing() -> None:
    bench = await Bench().open("slow", "fast")
    bench.set("slow", price_per_hour=1.0)
    bench.set("fast", price_per_hour=12.0, speed=4.0)
    await bench.submit("running", 3)
    document = {
        "name": "new",
        "tasks": {
            "work": {"command": ["true"], "task_inputs": {"X": "1..200"}, "resources": {"time": "1m"}},
            "sum": {"command": ["true"], "depends_on": ["work"]},
        },
    }
    previewer = Previewer(bench.tasks, InProcessSolver())
    compiled = compile_document(parse_document(document, now=NOW))
    found = await previewer.preview(compiled, "default", frontier=True)
    assert (found["placed"], found["unplaced"], sum(found["resources"].values())) == (201, 0, 201)
    assert found["finish_low_s"] < found["finish_s"] < found["finish_high_s"]
    assert found["cost"] > 0
    points = found["frontier"]
    assert len(points) >= 8
    assert all(a["finish_s"] < b["finish_s"] and a["cost"] > b["cost"] for a, b in itertools.pairwise(points))
    assert list(bench.database.experiments) == ["running"]
    chosen = points[len(points) // 2]
    limited = {**document, "objective": chosen["objective"], "budget": chosen["budget"]}
    again = await previewer.preview(compile_document(parse_document(limited, now=NOW)), "default", frontier=False)
    assert again["cost"] <= chosen["cost"] * 1.05
    assert again["finish_s"] == pytest.approx(chosen["finish_s"], rel=0.1)


async def test_alarms_pause_with_a_reason_and_are_announced_once() -> None:
    bench = await Bench().open()
    await bench.submit("e", 10)
    store = bench.experiments
    assert await store.warn("e", DEADLINE_AT_RISK, "late", {"risk": 1.0})
    assert not await store.warn("e", DEADLINE_AT_RISK, "late", {"risk": 1.0})
    state = await store.pause("e", "no money", kind=BUDGET_EXHAUSTED, data={"budget": 1.0})
    assert state is ExperimentState.PAUSED
    kinds = [event.kind for event in bench.database.events if event.experiment == "e"]
    assert kinds == ["experiment.submitted", DEADLINE_AT_RISK, BUDGET_EXHAUSTED]
    await store.resume("e", 7.0)
    assert bench.database.experiments["e"].budget == 7.0


async def test_a_program_that_ran_before_is_planned_with_what_that_run_showed() -> None:
    bench = await Bench().open()
    await bench.submit("first", 200, task={"resources": {"time": "1m"}})
    for _ in range(20):
        await bench.look()
        await bench.end(await bench.claim(), 2.0, peak_memory_bytes=10**8)
    previewer = Previewer(bench.tasks, InProcessSolver())
    step = {"command": ["true"], "task_inputs": {"X": "1..50"}, "resources": {"time": "1m"}}
    document = {"name": "again", "tasks": {"t": step, "other": {"command": ["false"]}}}
    found = await previewer.preview(compile_document(parse_document(document, now=NOW)), "default", frontier=False)
    again, other = found["steps"]
    assert (again["runtime"]["n"], again["earlier_attempts"], other["runtime"]["n"]) == (10, 10, 0)
    assert 1.5 < again["runtime"]["mean_s"] < 5.0
    assert again["memory"]["largest_bytes"] == 10**8
    step_id = await bench.submit("second", 50, task={"resources": {"time": "1m"}})
    told = await bench.explained(step_id)
    assert told["runtime_on"]["local"]["mean_s"] < 5.0
    # What the step shows itself soon weighs more.
    for _ in range(10):
        await bench.end(await bench.claim(), 8.0)
        await bench.look()
    assert (await bench.explained(step_id))["runtime_on"]["local"]["mean_s"] > 5.0


async def test_a_report_before_the_first_look_is_charged_as_any_other() -> None:
    bench = await Bench().open()
    bench.set("local", price_per_hour=3600.0)
    await bench.submit("e", 8)
    ended = await bench.looked("local")
    await bench.restart()
    report = asyncio.create_task(bench.end(ended, wall_s=10.0))
    await asyncio.sleep(0)
    assert not report.done()
    await bench.look()
    await report
    assert bench.cost("e") == pytest.approx(40.0)


async def test_a_report_of_a_worker_whose_lease_is_past_is_charged_as_any_other() -> None:
    bench = await Bench().open()
    bench.set("local", price_per_hour=3600.0)
    await bench.submit("e", 8)
    ended = await bench.looked("local")
    bench.database.workers[bench.worker_of["local"]].lease_until = 0.0
    await bench.look()
    await bench.end(ended, wall_s=10.0)
    assert bench.cost("e") == pytest.approx(40.0)
