"""From the database's counts to the planner's snapshot, and from the plan to what a worker is served."""

from __future__ import annotations

from typing import Any

import pytest

from airavata_scheduler.platform.domain.compiled import CompiledStep, ProgramTemplate
from airavata_scheduler.platform.domain.failures import RetryPolicy
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.sweep import Sweep
from airavata_scheduler.platform.ports.repository import (
    LiveWorker,
    OpenStep,
    PlannableResource,
    PlanningState,
    StepSpec,
)
from airavata_scheduler.platform.services.dispatch import Book
from airavata_scheduler.platform.services.experience import StepEstimate
from airavata_scheduler.platform.services.snapshot import build_snapshot
from airavata_scheduler.platform.services.spending import DEFAULT_RUNTIME_S, Spending, prior_s
from airavata_scheduler.platform.services.step_cache import KnownStep
from airavata_scheduler.scheduler_core import Estimate, Plan, Share, Snapshot

ONE, TWO = Capacity(cpu=1), Capacity(cpu=2)


def share(group: int, places: int, burst: int = 0, resource: str = "west", **more: Any) -> Share:
    values: dict[str, Any] = {"burst": burst, "order": group, "total": 99, "hold": places, **more}
    return Share(group=str(group), resource=resource, places=places, **values)


def worker(cpu: float = 4, number: int = 1, resource_id: int = 1, *, draining: bool = False) -> LiveWorker:
    name = "west" if resource_id == 1 else "east"
    return LiveWorker(number, f"w{number}", resource_id, name, Capacity(cpu=cpu), draining, {})


def wants(book: Book, free: float = 4, most: int = 100, requests: dict[int, Capacity] | None = None) -> dict[int, int]:
    return dict(book.wants(worker(), Capacity(cpu=free), most, requests or {1: ONE, 2: ONE}))


def test_places_are_served_before_what_is_left_goes_round() -> None:
    book = Book(Plan(shares=(share(1, 1, burst=4), share(2, 2, burst=4))), ready={1: 9, 2: 9})
    assert wants(book) == {1: 2, 2: 2}
    assert wants(book, free=3) == {1: 1, 2: 2}
    assert wants(book, most=1) == {1: 1}


def test_a_reserved_share_is_served_up_to_its_burst_too() -> None:
    book = Book(
        Plan(shares=(share(1, 2, burst=4, reserve=True), share(2, 0, burst=4, reserve=True))), ready={1: 0, 2: 9}
    )
    assert wants(book) == {2: 4}


def test_nothing_is_served_after_a_reserved_share_that_waits_for_room() -> None:
    plan = Plan(shares=(share(1, 1, burst=4), share(2, 2, burst=2, reserve=True), share(3, 9, burst=9)))
    requests = {1: ONE, 2: Capacity(cpu=3), 3: ONE}
    book = Book(plan, ready={1: 9, 2: 2, 3: 9})
    assert wants(book, free=4, requests=requests) == {1: 1, 2: 1}
    assert wants(book, free=3, requests=requests) == {1: 1}
    assert wants(Book(plan, ready={1: 9, 2: 0, 3: 9}), free=3, requests=requests) == {1: 1, 3: 2}
    held = Book(plan, ready={1: 9, 2: 2, 3: 9})
    held.active[2, "west"] = 2
    assert wants(held, free=3, requests=requests) == {1: 1, 3: 2}, "it runs as many as it has places"
    too_large = {**requests, 2: Capacity(cpu=8)}
    assert wants(book, free=3, requests=too_large) == {1: 1, 3: 2}, "no room of this worker will ever do"
    spent = Book(plan, ready={1: 9, 2: 2, 3: 9}, spending=Spending({"e": 0.0}, {}, {2: "e"}, {(2, "west"): 1.0}))
    assert wants(spent, free=3, requests=requests) == {1: 1, 3: 2}, "there is no money for it anyway"


def test_what_a_budget_does_not_pay_for_is_not_wanted() -> None:
    spending = Spending({"e": 2.5}, {}, {1: "e", 2: "e"}, {(1, "west"): 1.0, (2, "west"): 0.5})
    book = Book(Plan(shares=(share(1, 4, burst=4), share(2, 4, burst=4))), ready={1: 9, 2: 9}, spending=spending)
    assert wants(book, free=9) == {1: 2, 2: 1}
    book.claimed(worker(), [(1, 2)], {1: 2})
    assert (spending.left, spending.committed) == ({"e": 0.5}, {"e": 2.0})
    book.ended(worker(), {1: 2}, {1: 0.4})
    assert (spending.left, spending.committed) == ({"e": 2.1}, {"e": 0.0})


def test_what_would_end_after_a_hard_deadline_is_not_wanted_and_keeps_no_room() -> None:
    plan = Plan(shares=(share(1, 4, burst=4, reserve=True), share(2, 4, burst=4)))
    book = Book(plan, ready={1: 9, 2: 9}, late=frozenset({(1, "west")}))
    assert wants(book) == {2: 4}
    assert wants(Book(plan, ready={1: 9, 2: 9}, late=frozenset({(1, "east")}))) == {1: 4}


def test_what_runs_and_what_is_ready_bound_a_share() -> None:
    book = Book(Plan(shares=(share(1, 3, burst=3), share(2, 4, burst=4))), ready={1: 9, 2: 1})
    book.active[1, "west"] = 2
    assert wants(book) == {1: 1, 2: 1}
    assert wants(book, requests={1: Capacity(cpu=8), 2: ONE}) == {2: 1}
    assert dict(book.wants(worker(resource_id=2), TWO, 9, {1: ONE, 2: ONE})) == {}


def test_a_worker_that_prefetches_scales_its_share() -> None:
    book = Book(Plan(shares=(share(1, 2, burst=2),)), ready={1: 99})
    assert wants(book, free=4) == {1: 2}
    assert wants(book, free=12) == {1: 6}


def test_a_quota_bounds_what_is_started_until_the_next_plan() -> None:
    book = Book(Plan(shares=(share(1, 4, burst=4, quota=3),)), ready={1: 9})
    assert wants(book) == {1: 3}
    assert book.exhausted() == frozenset()
    book.claimed(worker(), [(1, 3)], {1: 3})
    book.ended(worker(), {1: 3})
    assert wants(book) == {}
    assert book.exhausted() == {("1", "west")}
    book.follow(book.plan)
    assert wants(book) == {1: 3}


def test_a_step_that_gave_less_than_wanted_has_no_more() -> None:
    book = Book(Plan(shares=(share(1, 9, burst=9),)), ready={1: 9})
    book.claimed(worker(), [(1, 4)], {1: 4})
    assert (book.ready[1], book.active[1, "west"]) == (5, 4)
    book.claimed(worker(), [(1, 4)], {1: 1})
    assert (book.ready[1], book.active[1, "west"], book.has_ready) == (0, 5, False)
    book.ended(worker(), {1: 7})
    assert book.active[1, "west"] == 0


def known(step_id: int, position: int, **more: Any) -> KnownStep:
    values: dict[str, Any] = {
        "foreach": (), "gather": (), "after": (), "allow": (), "deny": (), "time_s": None, "priority": 0, **more,
    }  # fmt: skip
    step = CompiledStep(
        position=position, name=f"s{position}", n=4, sweep=Sweep(), fan_out=4, references={},
        program=ProgramTemplate(request=Capacity(cpu=2, memory_bytes=5)), retry=RetryPolicy(), **values,
    )  # fmt: skip
    return KnownStep(StepSpec(step_id, "e", position, step.name, 4, {}, {0: 11, 1: 12}), step)


def opened(step_id: int, **more: Any) -> OpenStep:
    values: dict[str, Any] = {"budget": None, "cost": 0.0, "active": {}, "ready": 1, "remaining": 4, **more}
    return OpenStep(
        step_id=step_id, experiment="e", project="p", project_weight=2.0, priority=7, objective={}, deadline=50.0,
        submitted_at=3.0, n=4, **values,
    )  # fmt: skip


RESOURCES = [
    PlannableResource(1, "west", True, 2.0, 3.0, 1.5, {"a": "b"}),
    PlannableResource(2, "east", True, 0.0, 0.0, 1.0, {}),
    PlannableResource(3, "off", False, 0.0, 0.0, 1.0, {}),
]


def state(*steps: OpenStep) -> PlanningState:
    workers = [worker(4, 1), worker(2, 2), worker(8, 3, draining=True)]
    return PlanningState(10.0, steps, workers, RESOURCES, None)


def snapshot(
    steps: dict[int, KnownStep], *opened_steps: OpenStep, learnt: dict[int, StepEstimate] | None = None
) -> Snapshot:
    now = state(*opened_steps)
    estimates = {
        step.step_id: StepEstimate(Estimate(mean_s=prior_s(step, steps[step.step_id].step, RESOURCES)))
        for step in opened_steps
    } | (learnt or {})
    return build_snapshot(now, steps, estimates, Plan(shares=(share(11, 2),)), Spending.of(now, steps, estimates, {}))


def test_counts_requests_and_estimates_reach_the_planner() -> None:
    steps = {11: known(11, 0, time_s=9.0), 12: known(12, 1, foreach=(0,))}
    learnt = {12: StepEstimate(Estimate(mean_s=2.0, n=3), {"west": Estimate(mean_s=1.0, n=3)}, 0.25)}
    found = snapshot(steps, opened(11, active={1: 2}, budget=5.0, cost=6.0), opened(12), learnt=learnt)
    first, second = found.groups
    assert (first.key, first.request, first.n_ready, first.n_running, first.n_blocked) == (
        "11", {"cpu": 2, "memory_bytes": 5.0}, 1, {"west": 2}, 1,
    )  # fmt: skip
    assert (first.runtime.mean_s, first.runtime_on, first.after) == (9.0, {}, ())
    assert (second.runtime.mean_s, second.runtime_on["west"].mean_s, second.after) == (2.0, 1.0, ("11",))
    assert second.failure_rate == 0.25
    assert found.previous == {("11", "west"): 2}
    assert (found.projects[0].key, found.projects[0].weight) == ("p", 2.0)


def test_a_runtime_nobody_knows_is_a_minute_or_what_the_budget_allows() -> None:
    assert prior_s(opened(12), known(12, 1).step, RESOURCES) == DEFAULT_RUNTIME_S
    # four tasks of 2 cpu at 2.0 an hour: a budget of 0.01 is 9 s of them, shared by four, with a margin
    assert prior_s(opened(12, budget=0.01), known(12, 1).step, RESOURCES) == pytest.approx(0.9 * 9.0 / 4)
    assert prior_s(opened(12, budget=0.01), known(12, 1, time_s=7.0).step, RESOURCES) == 7.0


def test_money_left_is_net_of_what_running_tasks_will_cost_and_never_negative() -> None:
    steps = {11: known(11, 0, time_s=900.0)}
    assert snapshot(steps, opened(11, budget=5.0, cost=6.0)).experiments[0].budget_left == 0.0
    # at speed 1.5 a task takes 600 s of 2 cpu at 2.0 an hour
    left = snapshot(steps, opened(11, budget=5.0, cost=1.0, active={1: 3})).experiments[0].budget_left
    assert left == pytest.approx(4.0 - 3 * 2 * 2.0 / 6)


def test_draining_workers_are_no_capacity() -> None:
    west, east, off = snapshot({11: known(11, 0)}, opened(11)).resources
    assert (west.capacity, west.largest, west.workers, west.cut_off) == ({"cpu": 6.0}, {"cpu": 4.0}, 2, "")
    assert (east.workers, east.cut_off, off.cut_off) == (0, "it has no live worker", "disabled")
    assert west.labels == {"a=b"}


def test_steps_of_one_experiment_may_allow_and_deny_differently() -> None:
    alike = snapshot({11: known(11, 0, deny=("east",)), 12: known(12, 1, deny=("east",))}, opened(11), opened(12))
    assert alike.experiments[0].deny == {"east"}
    assert all(group.avoid == frozenset() for group in alike.groups)
    mixed = snapshot({11: known(11, 0, allow=("east",)), 12: known(12, 1, deny=("east",))}, opened(11), opened(12))
    assert (mixed.experiments[0].allow, mixed.experiments[0].deny) == (frozenset(), frozenset())
    assert [group.avoid for group in mixed.groups] == [{"west", "off"}, {"east"}]
