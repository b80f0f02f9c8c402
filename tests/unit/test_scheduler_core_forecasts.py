"""What plans promise: chains wait for what runs, deadlines are those of the experiment, workers hold whole tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airavata_scheduler.scheduler_core import (
    CHEAPEST,
    Cause,
    Estimate,
    Experiment,
    Forecast,
    Limits,
    Link,
    Plan,
    Project,
    Resource,
    Snapshot,
    SnapshotError,
    TaskGroup,
    Weights,
    explain,
    frontier,
    plan,
)
from airavata_scheduler.scheduler_core.frontier import BUDGET_MARGIN
from benchmarks.scheduling.instances import instances
from benchmarks.scheduling.ours import Ours
from benchmarks.scheduling.policies import baselines
from benchmarks.scheduling.simulator import State

FLUID = Limits(detail_tasks=0)


def group(key: str, n: int = 0, seconds: float = 60.0, experiment: str = "e", **more: Any) -> TaskGroup:
    values: dict[str, Any] = {"request": {"cpu": 1}, "n_ready": n, **more}
    return TaskGroup(key=key, experiment=experiment, runtime=Estimate(mean_s=seconds), **values)


def snapshot(*groups: TaskGroup, cpu: float = 4, **more: Any) -> Snapshot:
    values: dict[str, Any] = {
        "resources": (Resource(name="r", capacity={"cpu": cpu}),),
        "experiments": tuple(Experiment(key=key) for key in dict.fromkeys(g.experiment for g in groups)),
        **more,
    }
    return Snapshot(groups=groups, **values)


def expected(made: Plan, experiment: str = "e") -> Forecast:
    return next(f for f in made.forecasts if f.experiment == experiment)


@pytest.mark.parametrize(("running", "blocked", "finish"), [(4, 1, 110.0), (4, 4, 110.0), (1, 4, 110.0)])
def test_what_follows_running_tasks_waits_for_them(running: int, blocked: int, finish: float) -> None:
    parent = group("parent", n_running={"r": running}, running_left_s={"r": (100.0,) * running})
    child = group("child", seconds=10.0, n_blocked=blocked, after=("parent",))
    made = plan(snapshot(parent, child), 0.0)
    assert expected(made).finish_s == pytest.approx(finish)
    assert made.of_group("child")[0].start_in_s == pytest.approx(100.0)


def test_a_step_is_followed_task_by_task_although_some_of_it_has_ended() -> None:
    parent = group("parent", 4, n_running={"r": 4}, running_left_s={"r": (10.0,) * 4})
    child = group("child", seconds=30.0, n_ready=2, n_blocked=8, after=("parent",))
    made = plan(snapshot(parent, child, cpu=8), 0.0)
    # Four more of the parent start at once and end at 60 s: no child waits for more than its own.
    assert expected(made).finish_s == pytest.approx(90.0)


def test_a_deadline_is_judged_by_the_end_of_the_experiment() -> None:
    first = group("first", 1, 50.0, rank_s=50.0)
    last = group("last", seconds=50.0, n_blocked=1, after=("first",))
    made = plan(snapshot(first, last, experiments=(Experiment(key="e", deadline_at_s=120.0),)), 0.0)
    assert expected(made).finish_s == pytest.approx(100.0)
    assert expected(made).late_s == 0.0
    assert expected(made).deadline_risk < 0.5


def test_a_fluid_plan_ends_no_sooner_than_its_longest_chain() -> None:
    first = group("first", 1, 50.0, rank_s=500.0)
    last = group("last", seconds=500.0, n_blocked=1, after=("first",))
    assert expected(plan(snapshot(first, last), 0.0, FLUID)).finish_s == pytest.approx(550.0)


def test_a_fluid_forecast_gives_each_project_its_part() -> None:
    owners = (Experiment(key="sweep", project="a"), Experiment(key="small", project="b"))
    both = (group("s", 4000, experiment="sweep"), group("t", 40, experiment="small"))
    made = plan(snapshot(*both, experiments=owners, projects=(Project(key="a", weight=3.0),)), 0.0, FLUID)
    # A quarter of four places for 40 minutes of work, while the sweep takes three quarters.
    assert expected(made, "small").finish_s == pytest.approx(40 * 60.0)
    assert expected(made, "sweep").finish_s == pytest.approx(4040 / 4 * 60.0)


def test_priority_of_an_experiment_counts_in_a_fluid_plan() -> None:
    owners = (Experiment(key="low"), Experiment(key="high", priority=1))
    made = plan(
        snapshot(group("l", 400, experiment="low"), group("h", 400, experiment="high"), experiments=owners), 0.0, FLUID
    )
    assert expected(made, "high").finish_s == pytest.approx(expected(made, "low").finish_s / 2)


def test_a_start_is_expected_when_what_runs_ends() -> None:
    held = group("held", 4000, n_running={"r": 4}, running_left_s={"r": (30.0, 40.0, 50.0, 60.0)})
    late = group("late", 4, experiment="f")
    owners = (Experiment(key="e", project="a"), Experiment(key="f", project="b"))
    made = plan(snapshot(held, late, experiments=owners), 0.0, FLUID)
    assert made.of_group("late")[0].start_in_s == pytest.approx(30.0)


@pytest.mark.parametrize("limits", [Limits(), FLUID])
def test_free_parts_of_several_workers_do_not_add_up(limits: Limits) -> None:
    room = Resource(name="r", capacity={"cpu": 16}, largest={"cpu": 4}, workers=4)
    made = plan(snapshot(group("g", 40, request={"cpu": 3}), resources=(room,)), 0.0, limits)
    # One on each of four workers, ten times; 16 cores alone would hold five.
    assert expected(made).finish_s == pytest.approx(600.0)
    assert made.shares[0].burst == 4


MIXED = Resource(
    name="r", capacity={"cpu": 68, "gpu": 1}, largest={"cpu": 64, "gpu": 1}, workers=2,
    sizes=(({"cpu": 64}, 1), ({"cpu": 4, "gpu": 1}, 1)),
)  # fmt: skip


def test_workers_of_different_sizes_run_what_one_of_them_has_room_for() -> None:
    made = plan(snapshot(group("g", 3, request={"cpu": 4, "gpu": 1}), resources=(MIXED,)), 0.0)
    assert made.shares[0].burst == 1
    refused = plan(snapshot(group("g", 3, request={"cpu": 8, "gpu": 1}), resources=(MIXED,)), 0.0)
    (left,) = refused.unplaced
    assert (left.count, left.reasons[0].cause) == (3, Cause.TOO_LARGE)


def test_a_gang_that_too_few_workers_are_large_enough_for_has_a_reason() -> None:
    made = plan(snapshot(group("g", 1, nodes=2, request={"cpu": 8}), resources=(MIXED,)), 0.0)
    assert not made.shares or made.unplaced == ()
    narrow = replace(MIXED, sizes=(({"cpu": 8}, 1), ({"cpu": 4, "gpu": 1}, 1)), capacity={"cpu": 12, "gpu": 1})
    refused = plan(snapshot(group("g", 1, nodes=2, request={"cpu": 8}), resources=(narrow,)), 0.0)
    assert refused.unplaced[0].reasons[0].cause is Cause.TOO_FEW_WORKERS


def test_nothing_more_starts_where_the_plan_does_not_mean_to() -> None:
    dear = Resource(name="dear", capacity={"cpu": 4}, unit_prices={"cpu": 1000.0})
    cheap = Resource(name="cheap", capacity={"cpu": 4})
    held = group("g", 4000, n_running={"dear": 2})
    made = plan(
        snapshot(held, resources=(dear, cheap), experiments=(Experiment(key="e", weights=CHEAPEST),)), 0.0, FLUID
    )
    (there,) = made.of_resource("dear")
    assert (there.total, there.quota) == (0, 0)
    shut = plan(snapshot(replace(held, n_ready=0), resources=(replace(dear, cut_off="disabled"), cheap)), 0.0, FLUID)
    assert shut.of_resource("dear")[0].quota == 0


def test_a_replica_is_chosen_by_what_it_costs_too() -> None:
    links = (
        Link(source="paid", target="site", bandwidth_bytes_per_s=1e9, price_per_gb=10.0),
        Link(source="free", target="site", bandwidth_bytes_per_s=1e8),
    )
    site = (Resource(name="r", capacity={"cpu": 1}, location="site"),)
    data = group("g", 1, inputs={"paid": 1e9, "free": 1e9})
    cheap = snapshot(data, resources=site, links=links, experiments=(Experiment(key="e", weights=CHEAPEST),))
    assert expected(plan(cheap, 0.0)).cost == 0.0
    hasty = replace(cheap, experiments=(Experiment(key="e", weights=Weights(cost=0.0)),))
    assert expected(plan(hasty, 0.0)).cost == pytest.approx(10.0)


def test_explain_names_the_budget_that_binds() -> None:
    fast = Resource(name="fast", capacity={"cpu": 8}, unit_prices={"cpu": 36.0}, speed=4.0)
    slow = Resource(name="slow", capacity={"cpu": 1}, unit_prices={"cpu": 0.36})
    tight = Experiment(key="e", weights=Weights(cost=0.0), budget_left=0.9)
    made = snapshot(group("g", 100), resources=(fast, slow), experiments=(tight,))
    decided = plan(made, 0.0)
    if not any(share.resource == "fast" and share.total for share in decided.shares):
        verdict = explain(made, decided, 0.0, "g").verdicts[0]
        assert verdict.cause is Cause.BUDGET
    assert decided.budget_prices["e"] > 0


def test_a_limit_of_tasks_is_named_in_words() -> None:
    room = Resource(name="r", capacity={"cpu": 8}, max_tasks=1, life_left_s=100.0)
    made = plan(snapshot(group("g", 3), resources=(room,)), 0.0)
    texts = [reason.text for left in made.unplaced for reason in left.reasons]
    assert texts
    assert not any("#" in text for text in texts)


def test_a_plan_of_the_frontier_is_run_with_a_little_more_than_it_costs() -> None:
    places = (
        Resource(name="cheap", capacity={"cpu": 8}, unit_prices={"cpu": 0.5}, speed=0.5),
        Resource(name="fast", capacity={"cpu": 8}, unit_prices={"cpu": 12.0}, speed=2.0),
    )
    mine = Experiment(key="e", weights=Weights(deadline=7.0))
    found = frontier(snapshot(group("g", 100), resources=places, experiments=(mine,)), 0.0, "e")
    limited = [point for point in found if point.budget is not None]
    assert limited
    for point in limited:
        assert point.budget == pytest.approx(point.cost * (1.0 + BUDGET_MARGIN))
    assert {point.weights.deadline for point in found} == {7.0}


def test_no_more_tasks_are_late_than_by_deadline_first() -> None:
    (instance,) = [made for made in instances(150) if made.name == "deadlines"]
    (by_deadline,) = [policy for policy in baselines(150) if policy.name == "earliest-deadline-first"]
    limits = Limits(time_s=5.0, detail_tasks=4000, effort=5_000)
    ours = State(instance, 0.0, 150).run(Ours(limits))
    theirs = State(instance, 0.0, 150).run(by_deadline)
    assert ours.missed <= theirs.missed
    assert ours.objective <= theirs.objective


@pytest.mark.parametrize(("field", "broken"), [
    ("groups[0].n_ready", group("g", 2.5)),  # type: ignore[arg-type]
    ("groups[0].n_running['r']", group("g", 1, n_running={"r": 0.5})),
    ("groups[0].nodes", group("g", 1, nodes=1.5)),
    ("groups[0].request", group("g", 1, request=None)),
    ("groups[0].request.cpu", group("g", 1, request={"cpu": "1"})),
    ("groups[0].waiting_since_s", group("g", 1, waiting_since_s=float("-inf"))),
    ("groups[0].after", group("g", 1, after=("g",))),
    ("groups[0].n_ready", group("g", 5.0)),
    ("groups[0].n_ready", group("g", 10**400)),
    ("groups[0].n_running", group("g", 1, n_running=3)),
    ("groups[0].running_left_s['r']", group("g", 1, running_left_s={"r": 5.0})),
    ("groups[0].runtime", replace(group("g", 1), runtime=None)),
    ("groups[0].labels", group("g", 1, labels=None)),
    ("groups[0].priority", group("g", 1, priority=0.5)),
])  # fmt: skip
def test_what_is_no_number_or_no_whole_one_is_named(field: str, broken: TaskGroup) -> None:
    with pytest.raises(SnapshotError) as caught:
        plan(snapshot(broken), 0.0)
    assert caught.value.field == field


def test_two_links_for_one_way_are_refused() -> None:
    link = Link(source="a", target="b", bandwidth_bytes_per_s=1.0)
    with pytest.raises(SnapshotError, match="one link only"):
        plan(snapshot(group("g", 1), links=(link, link)), 0.0)


def test_a_stickiness_that_is_no_number_is_refused() -> None:
    with pytest.raises(SnapshotError, match="stickiness"):
        plan(snapshot(group("g", 1)), 0.0, Limits(stickiness=float("nan")))


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("experiments[0].priority", {"experiments": (Experiment(key="e", priority=float("nan")),)}),  # type: ignore[arg-type]
        ("experiments[0].priority", {"experiments": (Experiment(key="e", priority=10**30),)}),
        ("experiments[0].weights", {"experiments": (Experiment(key="e", weights=None),)}),  # type: ignore[arg-type]
        ("resources[0].sizes[0]", {"resources": (Resource(name="r", capacity={"cpu": 4}, sizes=(({"cpu": 4},),)),)}),  # type: ignore[arg-type]
        ("previous", {"previous": {"g": 1}}),
        ("previous[('g', 'r')]", {"previous": {("g", "r"): None}}),
    ],
)
def test_what_is_of_another_kind_is_named(field: str, more: dict[str, Any]) -> None:
    with pytest.raises(SnapshotError) as caught:
        plan(replace(snapshot(group("g", 1)), **more), 0.0)
    assert caught.value.field == field
