"""Room for the experiments to come: how much of the work each pool does, and assignments that end early."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from airavata_scheduler.scheduler_core import Estimate, Experiment, Limits, Resource, Snapshot, TaskGroup
from airavata_scheduler.scheduler_core.arrivals import arrival_assignments, with_arrivals
from airavata_scheduler.scheduler_core.classes import classify
from airavata_scheduler.scheduler_core.objective import arrival_weight, costs, parts, stage_finishes
from airavata_scheduler.scheduler_core.planner import climb
from airavata_scheduler.scheduler_core.problem import Problem, compile_problem

DEAR = Resource(name="dear", capacity={"cpu": 4}, speed=2.0, price_per_hour=24.0)
CHEAP = Resource(name="cheap", capacity={"cpu": 4}, price_per_hour=1.0)
SWEEP = TaskGroup(key="g", experiment="e", request={"cpu": 1}, runtime=Estimate(mean_s=30.0), n_ready=60)


def problem_of(arrivals_per_s: float, *resources: Resource) -> Problem:
    limits = Limits()
    snapshot = Snapshot(
        groups=(SWEEP,),
        resources=resources,
        experiments=(Experiment(key="e"),),
        arrivals_per_s=arrivals_per_s,
    )
    return compile_problem(snapshot, classify(snapshot, limits.max_classes), 0.0, limits)


def test_the_part_of_a_pool_is_what_it_does_of_all_work() -> None:
    assert parts(problem_of(0.0, DEAR, CHEAP)) == pytest.approx([2 / 3, 1 / 3])
    assert parts(problem_of(0.0, DEAR, replace(CHEAP, capacity={"cpu": 8}))) == pytest.approx([1 / 2, 1 / 2])


def test_a_pool_that_can_run_nothing_has_no_part_unless_all_are_alike() -> None:
    small = replace(CHEAP, capacity={"cpu": 0.5})
    assert parts(problem_of(0.0, DEAR, small)) == pytest.approx([1.0, 0.0])
    assert parts(problem_of(0.0, small, replace(small, name="other"))) == pytest.approx([0.5, 0.5])


def test_where_nobody_comes_no_room_is_left() -> None:
    problem = problem_of(0.0, DEAR, CHEAP)
    price = costs(problem)
    x, _, _ = climb(problem, price)
    assert arrival_assignments(problem, price, x) == []
    assert np.array_equal(with_arrivals(problem, price, x).finish_weight, price.finish_weight)


def test_where_many_come_all_work_ends_earlier() -> None:
    problem = problem_of(0.02, DEAR, CHEAP)
    assert arrival_weight(problem) > 0
    price = costs(problem)
    x, _, _ = climb(problem, price)
    found = arrival_assignments(problem, price, x)
    assert found
    for _, candidate in found:
        assert candidate.sum() == x.sum() == SWEEP.n_ready
    end_s = float(stage_finishes(problem, price, x)[-1])
    assert min(float(stage_finishes(problem, price, candidate)[-1]) for _, candidate in found) < end_s
