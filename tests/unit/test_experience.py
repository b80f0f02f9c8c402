"""What is learnt from finished attempts, and how it enters the plan: memory, failures, queue waits, data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from airavata_scheduler.platform.domain.compiled import CompiledStep, ProgramTemplate, Reference
from airavata_scheduler.platform.domain.failures import Cause, RetryPolicy
from airavata_scheduler.platform.domain.messages import Output, Report
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.platform.domain.sweep import Sweep
from airavata_scheduler.platform.ports.repository import (
    LiveWorker,
    OpenStep,
    OutputStatistics,
    PlannableResource,
    PlanningState,
    StepSpec,
)
from airavata_scheduler.platform.services.dispatch import Book
from airavata_scheduler.platform.services.experience import Experience, Prior
from airavata_scheduler.platform.services.reads import bytes_read
from airavata_scheduler.platform.services.snapshot import STORAGE, build_snapshot, planned_requests
from airavata_scheduler.platform.services.spending import Spending
from airavata_scheduler.platform.services.step_cache import KnownStep
from airavata_scheduler.platform.services.waits import QueueWaits, wanted_now
from airavata_scheduler.scheduler_core import Cause as Obstacle
from airavata_scheduler.scheduler_core import Plan, Reason, Share, Snapshot, Unplaced, plan

GB = 10**9
NEAR = PlannableResource(1, "near", True, 0.0, 0.0, 1.0, {})
FAR = replace(NEAR, id=2, name="far", bandwidth_bytes_per_s=1e6)


def ended(
    n: int, *, step_id: int = 11, memory_bytes: int = 0, outputs: tuple[Output, ...] = (), **more: Any
) -> list[Report]:
    values: dict[str, Any] = {"state": TaskState.SUCCEEDED, "started_at": 100.0, "wall_s": 1.0, **more}
    return [Report(step_id, i, 1, peak_memory_bytes=memory_bytes, outputs=outputs, **values) for i in range(n)]


def known(step_id: int, position: int, *, n: int = 4, memory_bytes: int = 0, **more: Any) -> KnownStep:
    values: dict[str, Any] = {"foreach": (), "gather": (), "after": (), "references": {}, **more}
    step = CompiledStep(
        position=position, name=f"s{position}", n=n, sweep=Sweep(), fan_out=n, retry=RetryPolicy(), priority=0,
        program=ProgramTemplate(request=Capacity(cpu=1, memory_bytes=memory_bytes)), time_s=None, **values,
    )  # fmt: skip
    return KnownStep(StepSpec(step_id, "e", position, step.name, n, {}, {0: 11, 1: 12, 2: 13}), step)


def opened(step_id: int, **more: Any) -> OpenStep:
    values: dict[str, Any] = {"ready": 4, "remaining": 4, **more}
    return OpenStep(
        step_id=step_id, experiment="e", project="p", project_weight=1.0, priority=0, objective={}, deadline=None,
        budget=None, cost=0.0, submitted_at=0.0, n=4, **values,
    )  # fmt: skip


def worker(resource: PlannableResource = NEAR, memory_bytes: int = 8 * GB) -> LiveWorker:
    capacity = Capacity(cpu=4, memory_bytes=memory_bytes)
    return LiveWorker(resource.id, f"w-{resource.name}", resource.id, resource.name, capacity, False, {})


def state(
    *steps: OpenStep,
    workers: tuple[LiveWorker, ...] = (worker(),),
    now: float = 0.0,
    resources: tuple[PlannableResource, ...] = (NEAR, FAR),
) -> PlanningState:
    return PlanningState(now, steps, workers, resources, None)


def snapshot(found: PlanningState, steps: Mapping[int, KnownStep], seen: Experience) -> Snapshot:
    priors = {i: Prior(60.0, step.step.program.request.memory_bytes) for i, step in steps.items()}
    estimates = seen.estimates(priors, {"near": 1.0, "far": 1.0})
    spending = Spending.of(found, steps, estimates, bytes_read(steps, seen))
    return build_snapshot(found, steps, estimates, Plan(), spending, seen)


@pytest.mark.parametrize(("asked", "seen_bytes", "planned"), [
    (0, 2 * GB, (2.0, 2.5)),       # nothing was asked for: what is used, and a margin
    (GB, 2 * GB, (2.0, 2.5)),      # too little was asked for
    (4 * GB, 2 * GB, (4.0, 4.0)),  # what the user claims stays claimed
    (0, 20 * GB, (8.0, 8.0)),      # no more than the largest worker has
])  # fmt: skip
def test_memory_that_tasks_use_is_planned_with(asked: int, seen_bytes: int, planned: tuple[float, float]) -> None:
    seen, steps = Experience(), {11: known(11, 0, memory_bytes=asked)}
    assert snapshot(state(opened(11)), steps, seen).groups[0].request.get("memory_bytes", 0) == asked
    seen.add("near", ended(20, memory_bytes=seen_bytes))
    request = snapshot(state(opened(11)), steps, seen).groups[0].request
    assert planned[0] * GB <= request["memory_bytes"] <= planned[1] * GB


def test_a_plan_with_learnt_memory_runs_fewer_at_a_time() -> None:
    seen, steps = Experience(), {11: known(11, 0)}
    before = plan(snapshot(state(opened(11)), steps, seen), 0.0)
    seen.add("near", ended(20, memory_bytes=3 * GB))
    after = plan(snapshot(state(opened(11)), steps, seen), 0.0)
    assert [share.places for share in (*before.shares, *after.shares)] == [4, 2]


def test_who_ran_out_of_memory_counts_and_other_failures_do_not() -> None:
    seen, priors = Experience(), {11: Prior(60.0)}
    seen.add("near", ended(5, state=TaskState.FAILED, cause=Cause.OUT_OF_MEMORY, memory_bytes=4 * GB))
    seen.add("near", ended(5, state=TaskState.FAILED, cause=Cause.EXIT_CODE, memory_bytes=GB))
    seen.add("near", ended(5, state=TaskState.FAILED, cause=Cause.WORKER_LOST, memory_bytes=GB))
    memory = seen.estimates(priors, {})[11].memory
    assert memory is not None
    assert (memory.n, memory.largest_bytes) == (5, 4 * GB)


def test_claims_leave_room_for_memory_that_the_worker_does_not_know_of() -> None:
    seen, steps = Experience(), {11: known(11, 0), 12: known(12, 1)}
    seen.add("near", ended(20, memory_bytes=3 * GB))
    found = state(opened(11), opened(12))
    estimates = seen.estimates({11: Prior(60.0), 12: Prior(60.0)}, {})
    requests = planned_requests(found, steps, estimates)
    shares = tuple(
        Share(group=str(i), resource="near", places=4, burst=4, order=i, total=4, start_in_s=0.0) for i in (11, 12)
    )
    book = Book(Plan(shares=shares), ready={11: 4, 12: 4}, typical_s=lambda _: 60.0)
    book.hidden_bytes = {11: requests[11].memory_bytes}
    # The worker says that all memory is free, and holds two tasks that fill it.
    book.claimed(worker(), [(11, 2)], {11: 2})
    assert book.wants(worker(), Capacity(cpu=2, memory_bytes=8 * GB), 4, requests) == [(12, 2)]


def test_failures_are_learnt_where_they_happen() -> None:
    seen = Experience()
    seen.add("near", ended(50))
    seen.add("far", ended(25) + ended(25, state=TaskState.FAILED, cause=Cause.EXIT_CODE))
    believed = seen.estimates({11: Prior(60.0)}, {})[11]
    assert believed.failure_on["near"] < 0.05
    assert 0.4 < believed.failure_on["far"] < 0.55
    assert 0.2 < believed.failure_rate < 0.3
    (group,) = snapshot(state(opened(11)), {11: known(11, 0)}, seen).groups
    assert group.failure_on == believed.failure_on


def test_a_wait_is_observed_once_from_wanted_to_the_first_start() -> None:
    waits = QueueWaits()
    waits.look({"near": True, "far": False}, set(), 10.0)
    waits.look({"near": True, "far": True}, set(), 11.0)
    waits.started("near", 9.0)  # before it was wanted
    assert waits.known() == {}
    waits.look({"near": True}, {"far"}, 12.0)
    waits.started("near", 12.5)
    waits.started("near", 99.0)  # the next task, which waited for a place
    waits.started("far", 100.0)  # ends long after it started
    near, far = waits.estimate("near", live=True), waits.estimate("far", live=False)
    assert near is not None
    assert far is not None
    assert (near.n, far.n) == (1, 1)
    assert near.mean_s < 2.5
    assert 80 < far.mean_s < 110
    assert waits.estimate("far", live=True) is None


def test_waits_survive_the_process_that_saw_them() -> None:
    first, second = QueueWaits(), QueueWaits()
    first.look({"near": True, "far": False}, set(), 10.0)
    first.started("near", 12.5)
    first.started("far", 100.0)
    kept = json.loads(json.dumps(first.unsaved()))
    assert set(kept) == {"near", "far"}
    first.saved(["near"])
    assert set(first.unsaved()) == {"far"}
    for resource, waits in kept.items():
        second.load(resource, waits)
    assert second.known() == first.known()
    assert second.unsaved() == {}


def test_waits_seen_since_are_not_replaced_by_older_ones() -> None:
    waits = QueueWaits()
    waits.look({"near": True}, set(), 10.0)
    waits.started("near", 12.5)
    seen = waits.known()
    waits.load("near", {"live": {"n": 50, "total": 200.0, "squares": 900.0, "largest": 99.0}})
    assert waits.known() == seen


def test_what_is_no_longer_wanted_is_no_wait() -> None:
    waits = QueueWaits()
    waits.look({"near": True}, set(), 10.0)
    waits.look({}, set(), 11.0)
    waits.started("near", 500.0)
    assert waits.known() == {}


def test_waits_reach_the_plan_where_nothing_runs_and_the_words_where_no_worker_is() -> None:
    seen, steps = Experience(), {11: known(11, 0)}
    seen.waits.look({"near": True, "far": False}, set(), 0.0)
    for name, at in (("near", 4.0), ("far", 90.0)):
        seen.waits.started(name, at)
    near, far = snapshot(state(opened(11)), steps, seen).resources
    assert near.queue_wait_s > 0.1
    assert far.queue_wait_s == 0.0
    assert "no live worker; when one was wanted before, tasks started after about" in far.cut_off
    busy, _ = snapshot(state(opened(11, active={1: 1})), steps, seen).resources
    assert busy.queue_wait_s == 0.0


def test_a_resource_is_wanted_for_its_places_or_for_the_worker_it_lacks() -> None:
    share = Share(group="11", resource="near", places=1, burst=1, order=0, total=1, start_in_s=0.0)
    lack = Reason(cause=Obstacle.CUT_OFF, text="far: not in use", resource="far")
    made = Plan(shares=(share,), unplaced=(Unplaced(group="11", count=1, reasons=(lack,)),))
    assert wanted_now(state(opened(11)), made) == {"near": True, "far": False}
    assert wanted_now(state(opened(11, ready=0)), made) == {}


def chain(mode: str) -> dict[int, KnownStep]:
    reference = {"IN": Reference(0, "OUT", mode)}  # type: ignore[arg-type]
    return {11: known(11, 0), 12: known(12, 1, references=reference, foreach=(0,))}


@pytest.mark.parametrize(("mode", "files"), [("foreach", 1), ("single", 1), ("gather", 4)])
def test_inputs_are_the_outputs_that_a_step_refers_to(mode: str, files: int) -> None:
    seen = Experience()
    seen.load([11], [], [OutputStatistics(11, "OUT", 2, 2 * 50e6), OutputStatistics(11, "LOG", 2, 1e12)])
    made = snapshot(state(opened(12), workers=(worker(), worker(FAR))), chain(mode), seen)
    assert made.groups[0].inputs == {STORAGE: files * 50e6}
    assert [resource.location for resource in made.resources] == [STORAGE, "far"]


def test_data_is_moved_only_where_the_storage_is_not_at_hand_and_only_if_it_pays() -> None:
    seen, steps = Experience(), chain("foreach")
    seen.add("near", ended(4, outputs=(Output("OUT", "k", 50_000_000, "ff"),)))
    seen.add("near", ended(20, step_id=12, wall_s=20.0))
    both = (worker(), worker(FAR))
    few = plan(snapshot(state(opened(12), workers=both), steps, seen), 0.0)
    assert [share.resource for share in few.shares if share.total] == ["near"]
    assert few.forecasts[0].moved_bytes == 0
    many = snapshot(state(opened(12, ready=400, remaining=400), workers=both), steps, seen)
    decided = plan(many, 0.0)
    moved = sum(share.total for share in decided.shares if share.resource == "far")
    # 20 s of work and 50 s of transfer: the far place does two tasks where the near one does seven.
    assert 0.15 * 400 < moved < 0.3 * 400
    assert decided.forecasts[0].moved_bytes == pytest.approx(moved * 50e6)
    # The same with the storage at hand everywhere.
    here = replace(many, links=(), resources=tuple(replace(r, location=STORAGE) for r in many.resources))
    assert plan(here, 0.0).forecasts[0].moved_bytes == 0


def test_what_was_learnt_at_the_end_of_a_link_is_not_charged_twice() -> None:
    seen, steps = Experience(), chain("foreach")
    seen.add("near", ended(4, outputs=(Output("OUT", "k", 50_000_000, "ff"),)))
    seen.add("far", ended(200, step_id=12, wall_s=70.0))
    (group,) = snapshot(state(opened(12), workers=(worker(FAR),)), steps, seen).groups
    assert group.runtime_on["far"].mean_s == pytest.approx(20.0, rel=0.05)


def test_reading_that_costs_money_is_in_the_plan_and_done_where_it_is_worth_it() -> None:
    seen, steps = Experience(), chain("foreach")
    seen.add("near", ended(4, outputs=(Output("OUT", "k", GB // 2, "ff"),)))
    seen.add("near", ended(20, step_id=12, wall_s=20.0))
    dear = replace(NEAR, id=2, name="far", egress_price_per_gb=3.0)
    waiting = opened(12, ready=400, remaining=400)
    found = state(waiting, workers=(worker(), worker(dear)), resources=(NEAR, dear))
    for objective, most in (({"time": 1.0, "cost": 0.0}, 400), ({"time": 0.0, "cost": 1.0}, 0)):
        asked = replace(found, steps=[replace(waiting, objective=objective)])
        decided = plan(snapshot(asked, steps, seen), 0.0)
        moved = sum(share.total for share in decided.shares if share.resource == "far")
        assert decided.forecasts[0].cost == pytest.approx(moved * 1.5)
        assert moved == pytest.approx(most / 2, abs=8), objective


def test_ranks_are_the_longest_way_to_the_end() -> None:
    steps = {11: known(11, 0), 12: known(12, 1, foreach=(0,)), 13: known(13, 2, after=(0, 1))}
    found = snapshot(state(opened(11), opened(12, ready=0), opened(13, ready=0)), steps, Experience())
    one = found.groups[0].runtime.mean_s
    assert [group.rank_s for group in found.groups] == pytest.approx([2 * one, one, 0.0])


def test_arrivals_are_those_of_the_last_hour() -> None:
    seen = Experience()
    steps = [replace(opened(i), experiment=f"e{i}", submitted_at=60.0 * i) for i in range(10)]
    seen.arrivals.look(state(*steps, now=600.0))
    assert seen.arrivals.per_s == pytest.approx(9 / 3600)
    seen.arrivals.look(state(now=3600.0 + 299.0))
    assert seen.arrivals.per_s == pytest.approx(4 / 3600)
    seen.arrivals.look(state(now=1e6))
    assert seen.arrivals.per_s == 0.0


@pytest.mark.parametrize(
    ("asked", "seen_bytes", "drifted"), [(0, 2 * GB, True), (0, 10**7, False), (4 * GB, GB, False)]
)
def test_memory_beyond_the_request_is_a_reason_for_another_plan(asked: int, seen_bytes: int, drifted: bool) -> None:
    seen, priors = Experience(), {11: Prior(1.0, asked)}
    seen.planned_with(seen.estimates(priors, {}))
    seen.add("near", ended(20, memory_bytes=seen_bytes))
    assert seen.drifted(seen.estimates(priors, {})) == drifted
