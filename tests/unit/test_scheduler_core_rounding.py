"""Whole tasks out of parts of them: on whole workers, within a budget to the last task; the bound knows of both."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from airavata_scheduler.scheduler_core import (
    CHEAPEST,
    Estimate,
    Experiment,
    Limits,
    Resource,
    Snapshot,
    TaskGroup,
    plan,
)
from airavata_scheduler.scheduler_core.classes import classify
from airavata_scheduler.scheduler_core.greedy import room
from airavata_scheduler.scheduler_core.objective import fixed_blocks
from airavata_scheduler.scheduler_core.problem import Problem, compile_problem
from airavata_scheduler.scheduler_core.savings import save
from airavata_scheduler.scheduler_core.shapes import with_shapes

#: Nothing is rehearsed: what comes out is what rounding made.
FLUID = Limits(detail_tasks=0)


def group(key: str, n: int, mean_s: float, **more: Any) -> TaskGroup:
    more.setdefault("request", {"cpu": 1})
    return TaskGroup(key=key, experiment="e", runtime=Estimate(mean_s=mean_s), n_ready=n, **more)


def snapshot_of(groups: tuple[TaskGroup, ...], resources: tuple[Resource, ...], experiment: Experiment) -> Snapshot:
    return Snapshot(groups=groups, resources=resources, experiments=(experiment,))


def compiled(snapshot: Snapshot, limits: Limits = FLUID) -> Problem:
    return compile_problem(snapshot, classify(snapshot, limits.max_classes), 0.0, limits)


def test_the_last_task_is_paid_for_by_one_that_moves_to_a_cheaper_place() -> None:
    cheap = Resource(name="cheap", capacity={"cpu": 1}, price_per_hour=1.0)
    dear = Resource(name="dear", capacity={"cpu": 1}, price_per_hour=2.0)
    # Three hours of work; one dear hour and two cheap ones cost 4, and 3.5 are there.
    snapshot = snapshot_of((group("a", 3, 3600.0),), (cheap, dear), Experiment(key="e", budget_left=3.5))
    problem = compiled(snapshot)
    x = np.array([[1.0, 1.0]])
    left = room(problem, fixed_blocks(problem), x)
    saved = save(problem, np.zeros((1, 2)), left, x)
    assert saved.tolist() == [[2.0, 0.0]]
    assert left.money[0] == pytest.approx(1.5), "enough for the third, which is not placed here"


def test_what_one_class_was_saved_for_is_not_spent_by_the_next() -> None:
    cheap = Resource(name="cheap", capacity={"cpu": 1}, price_per_hour=1.0)
    dear = Resource(name="dear", capacity={"cpu": 1}, price_per_hour=2.0)
    groups = (
        group("a", 4, 1800.0),
        group("b", 1, 1800.0, request={"cpu": 0.999998}),
        group("c", 1, 1800.0, request={"cpu": 0.999999}),
    )
    # Four dear half hours take all four; each that moves leaves a half, and two cheap half hours are missing.
    snapshot = snapshot_of(groups, (cheap, dear), Experiment(key="e", budget_left=4.0))
    problem = compiled(snapshot)
    row = next(c for c, found in enumerate(problem.classes) if found.count == 4)
    x = np.zeros(problem.cause.shape)
    x[row, 1] = 4.0
    left = room(problem, fixed_blocks(problem), x)
    assert save(problem, np.zeros(x.shape), left, x)[row].tolist() == [2.0, 2.0]
    assert left.money[0] == pytest.approx(1.0), "half an hour each"


def test_nothing_moves_while_money_is_enough_or_nothing_would_help() -> None:
    cheap = Resource(name="cheap", capacity={"cpu": 1}, price_per_hour=1.0)
    dear = Resource(name="dear", capacity={"cpu": 1}, price_per_hour=2.0)
    for budget, x in ((10.0, [[1.0, 1.0]]), (2.5, [[2.0, 0.0]])):
        snapshot = snapshot_of((group("a", 3, 3600.0),), (cheap, dear), Experiment(key="e", budget_left=budget))
        problem = compiled(snapshot)
        given = np.array(x)
        assert save(problem, np.zeros((1, 2)), room(problem, fixed_blocks(problem), given), given) is given


@pytest.mark.parametrize("seed", range(12))
def test_what_the_cheapest_places_cost_is_enough_for_every_task(seed: int) -> None:
    dice = random.Random(seed)
    resources = tuple(
        Resource(
            name=f"r{i}",
            capacity={"cpu": dice.choice((4.0, 8.0)), "memory_bytes": dice.choice((8e9, 16e9))},
            price_per_hour=dice.uniform(0.1, 2.0),
            speed=dice.uniform(0.5, 2.0),
        )
        for i in range(4)
    )
    groups = tuple(
        group(
            f"g{i}",
            dice.randint(100, 400),
            dice.uniform(10, 300),
            request={"cpu": float(dice.choice((1, 2))), "memory_bytes": dice.choice((1e9, 3e9))},
        )
        for i in range(5)
    )
    cheapest = plan(snapshot_of(groups, resources, Experiment(key="e", weights=CHEAPEST)), 0.0, FLUID).forecasts[0].cost
    budget = cheapest * dice.choice((1.002, 1.01, 1.05))
    decided = plan(snapshot_of(groups, resources, Experiment(key="e", budget_left=budget)), 0.0, FLUID)
    assert decided.unplaced == ()
    assert decided.gap is not None
    assert decided.gap < 0.01, "tasks of 3 GB run two at a time on 8 GB, and the bound knows it"


def test_a_budget_that_is_short_leaves_out_whole_tasks_in_the_bound_as_well() -> None:
    only = Resource(name="only", capacity={"cpu": 1}, price_per_hour=1.0)
    snapshot = snapshot_of((group("a", 100, 3600.0),), (only,), Experiment(key="e", budget_left=97.1))
    decided = plan(snapshot, 0.0, FLUID)
    assert [entry.count for entry in decided.unplaced] == [3]
    assert decided.gap == pytest.approx(0.0, abs=1e-3)


def test_a_shape_counts_what_whole_workers_run_of_it() -> None:
    workers = Resource(name="r", capacity={"cpu": 12}, largest={"cpu": 4}, workers=3)
    groups = (
        group("three", 10, 60.0, request={"cpu": 3}, n_running={"r": 2}, running_left_s={"r": (10.0, 20.0)}),
        group("three too", 5, 90.0, request={"cpu": 3}),
        group("one", 10, 60.0),
    )
    problem = compiled(snapshot_of(groups, (workers,), Experiment(key="e")))
    packed = with_shapes(problem, 1)
    assert packed.dims == (*problem.dims, "#shape 0")
    assert packed.capacity[:, -1].tolist() == [3.0], "not the four that twelve cores would hold"
    by_key = {
        problem.snapshot.groups[c.members[0]].key: row
        for c, row in zip(packed.classes, packed.request[:, -1], strict=True)
    }
    assert by_key == {"three": 1.0, "three too": 1.0, "one": 0.0}
    assert packed.running_load[0, -1] == pytest.approx(30.0)


def test_a_problem_without_such_shapes_stays_as_it_is() -> None:
    workers = Resource(name="r", capacity={"cpu": 12}, largest={"cpu": 4}, workers=3)
    problem = compiled(snapshot_of((group("two", 10, 60.0, request={"cpu": 2}),), (workers,), Experiment(key="e")))
    assert with_shapes(problem, 1) is problem


def test_a_large_backlog_goes_where_whole_workers_run_more_of_it() -> None:
    """By cores alike, but tasks of three cores waste a quarter of the small workers."""
    small = Resource(name="small", capacity={"cpu": 60}, largest={"cpu": 4}, workers=15)
    large = Resource(name="large", capacity={"cpu": 60}, largest={"cpu": 60}, workers=1)
    snapshot = snapshot_of((group("a", 7000, 60.0, request={"cpu": 3}),), (small, large), Experiment(key="e"))
    decided = plan(snapshot, 0.0, replace(FLUID, solver="linear"))
    tasks = {share.resource: share.total for share in decided.shares}
    assert tasks["small"] == pytest.approx(3000, rel=0.02)
    assert tasks["large"] == pytest.approx(4000, rel=0.02)
    assert decided.gap == pytest.approx(0.0, abs=0.005)
