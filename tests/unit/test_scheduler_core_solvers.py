"""The rungs of the ladder agree with each other, the frontier is one, and malformed snapshots are refused."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from airavata_scheduler.scheduler_core import (
    FASTEST,
    Estimate,
    Experiment,
    Limits,
    Resource,
    Snapshot,
    SnapshotError,
    TaskGroup,
    frontier,
    linear,
    plan,
)
from airavata_scheduler.scheduler_core.frontier import rows, table

WINDOW = Limits(window_s=3600.0)


def sweep(seed: int, n_groups: int = 12, tasks: int = 400, n_resources: int = 6) -> Snapshot:
    dice = random.Random(seed)
    return Snapshot(
        groups=tuple(
            TaskGroup(
                key=f"g{i}",
                experiment="e",
                request={"cpu": 1},
                runtime=Estimate(mean_s=dice.uniform(5, 60)),
                n_ready=tasks,
            )
            for i in range(n_groups)
        ),
        resources=tuple(
            Resource(
                name=f"r{i}",
                capacity={"cpu": dice.choice((8, 16, 32))},
                price_per_hour=dice.uniform(0.1, 5),
                speed=dice.uniform(0.5, 2),
            )
            for i in range(n_resources)
        ),
        experiments=(Experiment(key="e"),),
    )


@pytest.mark.parametrize("seed", range(4))
def test_flow_and_linear_programme_find_the_same_optimum(seed: int) -> None:
    flow = plan(sweep(seed), 0.0, replace(WINDOW, solver="flow"))
    linear = plan(sweep(seed), 0.0, replace(WINDOW, solver="linear"))
    assert (flow.solver, linear.solver) == ("flow", "linear")
    assert flow.bound == pytest.approx(linear.bound, rel=1e-4)
    assert flow.objective == pytest.approx(linear.objective, rel=1e-3)


@pytest.mark.parametrize("limits", [Limits(), WINDOW], ids=["backlog", "window"])
def test_the_gap_to_the_bound_is_small_and_greedy_is_never_better(limits: Limits) -> None:
    best = plan(sweep(1), 0.0, limits)
    greedy = plan(sweep(1), 0.0, replace(limits, solver="greedy"))
    assert best.gap is not None
    assert best.gap < 0.003
    assert greedy.bound is None
    assert greedy.objective >= best.objective


def test_the_flow_is_chosen_for_one_dimension_in_a_window_without_budgets() -> None:
    assert plan(sweep(2), 0.0, WINDOW).solver == "flow"
    bounded = replace(sweep(2), experiments=(Experiment(key="e", budget_left=1.0),))
    assert plan(bounded, 0.0, WINDOW).solver == "linear"


def test_many_groups_become_few_classes_and_come_back_as_groups() -> None:
    many = sweep(3, n_groups=3000, tasks=2)
    made = plan(many, 0.0, Limits(max_classes=50))
    assert made.classes <= 50
    totals: dict[str, int] = {}
    for share in made.shares:
        totals[share.group] = totals.get(share.group, 0) + share.total
    assert all(totals[group.key] == 2 for group in many.groups)


def test_work_under_way_does_not_move_for_a_small_change() -> None:
    before = sweep(4, n_groups=3, tasks=300)
    first = plan(before, 0.0, WINDOW)
    places = {(s.group, s.resource): s.places for s in first.shares if s.places}
    nudged = tuple(
        replace(r, price_per_hour=r.price_per_hour * (1.001 if i % 2 else 0.999))
        for i, r in enumerate(before.resources)
    )
    second = plan(replace(before, resources=nudged, previous=places), 0.0, WINDOW)
    moved = sum(abs(places.get((s.group, s.resource), 0) - s.places) for s in second.shares)
    assert moved <= 0.05 * sum(places.values())


def test_the_frontier_has_eight_plans_none_of_which_is_dominated() -> None:
    small = sweep(5, n_groups=4, tasks=40, n_resources=4)
    found = frontier(replace(small, experiments=(Experiment(key="e", weights=FASTEST),)), 0.0, "e")
    assert len(found) >= 8
    assert [p.number for p in found] == list(range(1, len(found) + 1))
    for quicker, cheaper in pairwise(found):
        assert quicker.finish_s < cheaper.finish_s
        assert quicker.cost > cheaper.cost
    assert len(table(found).splitlines()) == len(found) + 1
    assert rows(found)[0]["cost"] == found[0].cost


@pytest.mark.parametrize(
    ("field", "broken"),
    [
        ("groups[0].experiment", lambda s: replace(s, experiments=())),
        ("groups[0].runtime.mean_s", lambda s: _group(s, runtime=Estimate(mean_s=0.0))),
        ("groups[0].runtime.mean_s", lambda s: _group(s, runtime=Estimate(mean_s=float("nan")))),
        ("groups[0].request.cpu", lambda s: _group(s, request={"cpu": -1})),
        ("groups[0].n_ready", lambda s: _group(s, n_ready=-5)),
        ("groups[0].nodes", lambda s: _group(s, nodes=0)),
        ("groups[0].failure_rate", lambda s: _group(s, failure_rate=1.0)),
        ("groups[0].failure_on['r0']", lambda s: _group(s, failure_on={"r0": 1.5})),
        ("arrivals_per_s", lambda s: replace(s, arrivals_per_s=-1.0)),
        ("groups[1]", lambda s: replace(s, groups=(s.groups[0], s.groups[0]))),
        ("resources[0].speed", lambda s: _resource(s, speed=0.0)),
        ("resources[0].capacity.cpu", lambda s: _resource(s, capacity={"cpu": float("inf")})),
        ("resources[0].price_per_hour", lambda s: _resource(s, price_per_hour=-1.0)),
        (
            "experiments[0].budget_left",
            lambda s: replace(s, experiments=(Experiment(key="e", budget_left=float("nan")),)),
        ),
    ],
)
def test_a_malformed_snapshot_gives_an_error_that_names_the_field(field: str, broken: object) -> None:
    with pytest.raises(SnapshotError) as caught:
        plan(broken(sweep(0, n_groups=1)), 0.0)  # type: ignore[operator]
    assert caught.value.field == field
    assert caught.value.remedy


def _group(snapshot: Snapshot, **changes: object) -> Snapshot:
    return replace(snapshot, groups=(replace(snapshot.groups[0], **changes),))  # type: ignore[arg-type]


def _resource(snapshot: Snapshot, **changes: object) -> Snapshot:
    return replace(snapshot, resources=(replace(snapshot.resources[0], **changes),))  # type: ignore[arg-type]


def test_who_expects_more_work_pays_for_a_shorter_backlog() -> None:
    dear = Resource(name="dear", capacity={"cpu": 4}, speed=2.0, price_per_hour=6.0)
    cheap = Resource(name="cheap", capacity={"cpu": 4}, price_per_hour=1.0)
    sweep = TaskGroup(key="g", experiment="e", request={"cpu": 1}, runtime=Estimate(mean_s=30.0), n_ready=60)
    calm = Snapshot(groups=(sweep,), resources=(dear, cheap), experiments=(Experiment(key="e"),))
    busy = replace(calm, arrivals_per_s=0.05)
    finishes = [plan(snapshot, 0.0).forecasts[0].finish_s for snapshot in (calm, busy)]
    assert finishes[1] < finishes[0]


def test_a_programme_in_which_the_simplex_goes_in_circles_is_solved() -> None:
    kept = json.loads((Path(__file__).parent / "data/circling_programme.json").read_text())
    cost, upper = np.array(kept["cost"]), np.array(kept["upper"])
    lower = np.array([-np.inf if bound is None else bound for bound in kept["lower"]])
    columns = np.array([c for row in kept["rows"] for c, _ in row])
    values = np.array([v for row in kept["rows"] for _, v in row])
    starts = np.cumsum([0, *map(len, kept["rows"])])
    matrix = csr_matrix((values, columns, starts), shape=(len(lower), len(cost)))
    found, _, objective = linear._run(np.zeros(len(cost)), cost, lower, upper, matrix)
    assert objective == pytest.approx(0.04165)
    assert (matrix @ found <= upper + 1e-6).all()
    assert (matrix @ found >= lower - 1e-6).all()


def competing(tasks: int) -> Snapshot:
    """Two experiments on one machine; the second is due when half of the work is done."""
    return Snapshot(
        groups=tuple(
            TaskGroup(key=f"{e}{i}", experiment=e, request={"cpu": 1}, runtime=Estimate(mean_s=10.0 + i), n_ready=tasks)
            for e in "ab"
            for i in range(3)
        ),
        resources=(Resource(name="r", capacity={"cpu": 8}), Resource(name="s", capacity={"cpu": 8}, speed=2.0)),
        experiments=(
            Experiment(key="a", deadline_at_s=1e6),
            Experiment(key="b", deadline_at_s=1.05 * 33.0 * tasks / 24),
        ),
    )


def test_many_tasks_are_rehearsed_in_bundles_where_order_matters() -> None:
    limits = Limits(bundles=True)
    decided = plan(competing(3_000), 0.0, limits)
    assert decided.solver.startswith("linear+")
    assert {f.experiment: (f.late_s, f.placed) for f in decided.forecasts} == {"a": (0.0, 9_000), "b": (0.0, 9_000)}
    assert all(share.quota is None for share in decided.shares), "a bundle says nothing of single tasks"
    # As a plan that looks at every task says, give or take a bundle.
    few = plan(competing(60), 0.0, Limits())
    for many, one in zip(decided.forecasts, few.forecasts, strict=True):
        assert many.finish_s == pytest.approx(50 * one.finish_s, rel=0.03)
        assert many.cost == pytest.approx(50 * one.cost)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: replace(s, experiments=tuple(replace(e, budget_left=1e6) for e in s.experiments)),
        lambda s: replace(s, experiments=tuple(replace(e, hard=True) for e in s.experiments)),
        lambda s: replace(s, experiments=tuple(replace(e, deadline_at_s=None) for e in s.experiments)),
        lambda s: replace(s, groups=(*s.groups[:-1], replace(s.groups[-1], after=(s.groups[0].key,)))),
    ],
    ids=["budget", "hard deadline", "nothing competes", "a step that waits"],
)
def test_what_depends_on_single_tasks_is_no_matter_for_bundles(change: Callable[[Snapshot], Snapshot]) -> None:
    assert plan(change(competing(3_000)), 0.0, Limits(bundles=True)).solver == "linear"


def test_no_place_idles_at_the_end_of_a_fluid_plan() -> None:
    """Where all is alike the solver may give a group to one machine alone; every machine may take it all the same."""
    snapshot = sweep(1)
    alike = tuple(replace(r, speed=1.0, price_per_hour=0.0) for r in snapshot.resources)
    shares = plan(replace(snapshot, resources=alike), 0.0, Limits(solver="linear")).shares
    assert len(shares) == len(snapshot.groups) * len(alike)


def _all_finishes_and_costs(n: int, resources: tuple[Resource, ...]) -> set[tuple[float, float]]:
    """Of all ways to share out n tasks of 600 s among three places for one each; none that is dominated."""
    found = set()
    for first in range(n + 1):
        for second in range(n + 1 - first):
            held = [k * 600 / r.speed for k, r in zip((first, second, n - first - second), resources, strict=True)]
            cost = sum(s * r.price_per_hour / 3600 for s, r in zip(held, resources, strict=True))
            found.add((round(max(held), 3), round(cost, 6)))
    return {p for p in found if not any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in found)}


@pytest.mark.parametrize("seed", range(6))
def test_the_frontier_of_a_few_tasks_is_all_there_is(seed: int) -> None:
    dice = random.Random(seed)
    n = dice.randint(3, 9)
    resources = tuple(
        Resource(
            name=f"r{i}",
            capacity={"cpu": 1},
            price_per_hour=dice.choice((1.0, 2.0, 3.0, 5.0, 8.0)),
            speed=dice.choice((0.5, 1.0, 1.5, 2.0, 3.0)),
        )
        for i in range(3)
    )
    group = TaskGroup(key="g", experiment="e", request={"cpu": 1}, runtime=Estimate(mean_s=600.0), n_ready=n)
    snapshot = Snapshot(groups=(group,), resources=resources, experiments=(Experiment(key="e"),))
    there = _all_finishes_and_costs(n, resources)
    found = {(round(p.finish_s, 3), round(p.cost, 6)) for p in frontier(snapshot, 0.0, "e", points=8)}
    assert found <= there
    assert len(found) >= min(8, len(there))
