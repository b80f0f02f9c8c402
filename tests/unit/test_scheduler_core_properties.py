"""What must hold for every plan, whatever the snapshot."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airavata_scheduler.scheduler_core import (
    PRESETS,
    Estimate,
    Experiment,
    Limits,
    Plan,
    Resource,
    Snapshot,
    TaskGroup,
    WorkerOffer,
    plan,
)

LIMITS = Limits(effort=300)
#: Task by task, in a window, and in bundles.
KINDS = st.sampled_from((LIMITS, replace(LIMITS, window_s=100.0), replace(LIMITS, detail_tasks=10, bundles=True)))
RESOURCES = ("r0", "r1", "r2")
relaxed = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def amounts(low: int, high: int) -> st.SearchStrategy[float]:
    return st.integers(low, high).map(float)


@st.composite
def resources(draw: st.DrawFn, name: str) -> Resource:
    workers = draw(st.integers(1, 4))
    cpu, memory = draw(amounts(1, 8)), draw(amounts(1, 16))
    offers = ()
    if draw(st.booleans()):
        wait = Estimate(mean_s=draw(amounts(0, 100)))
        offers = (WorkerOffer(size={"cpu": 8, "memory": 16}, max_workers=draw(st.integers(0, 3)), queue_wait=wait),)
    return Resource(
        name=name,
        capacity={"cpu": cpu * workers, "memory": memory * workers},
        largest={"cpu": cpu, "memory": memory},
        workers=workers,
        offers=offers,
        price_per_hour=draw(amounts(0, 8)),
        speed=draw(st.sampled_from((0.5, 1.0, 2.0))),
        failure_rate=draw(st.sampled_from((0.0, 0.25))),
        cut_off=draw(st.sampled_from(("", "", "", "probe failed"))),
        max_tasks=draw(st.sampled_from((None, None, 3))),
        queue_wait_s=draw(st.sampled_from((0.0, 0.0, 30.0))),
        life_left_s=draw(st.sampled_from((None, None, 100.0))),
    )


@st.composite
def experiments(draw: st.DrawFn, key: str) -> Experiment:
    return Experiment(
        key=key,
        project=draw(st.sampled_from(("p", "q"))),
        weights=PRESETS[draw(st.sampled_from(sorted(PRESETS)))],
        priority=draw(st.integers(0, 2)),
        deadline_at_s=draw(st.sampled_from((None, 50.0, 200.0))),
        hard=draw(st.booleans()),
        budget_left=draw(st.sampled_from((None, None, 0.0, 0.02, 0.5))),
        deny=frozenset(draw(st.sets(st.sampled_from(RESOURCES), max_size=1))),
    )


@st.composite
def groups(draw: st.DrawFn, key: str, owners: tuple[str, ...], before: tuple[str, ...]) -> TaskGroup:
    after = tuple(draw(st.sets(st.sampled_from(before), max_size=1))) if before else ()
    n = draw(st.integers(0, 12))
    return TaskGroup(
        key=key,
        experiment=draw(st.sampled_from(owners)),
        request={"cpu": draw(amounts(0, 4)), "memory": draw(amounts(0, 4))},
        runtime=Estimate(mean_s=draw(amounts(1, 60))),
        n_ready=0 if after else n,
        n_blocked=n if after else 0,
        after=after,
        nodes=draw(st.sampled_from((1, 1, 1, 2))),
        n_running=draw(st.sampled_from(({}, {"r0": 1}))),
        inputs=draw(st.sampled_from(({}, {"far": 1e8}))),
    )


@st.composite
def snapshots(draw: st.DrawFn, owners: tuple[str, ...] = ("e0", "e1")) -> Snapshot:
    made: list[TaskGroup] = []
    for i in range(draw(st.integers(0, 5))):
        made.append(draw(groups(f"g{i}", owners, tuple(g.key for g in made))))
    return Snapshot(
        groups=tuple(made),
        resources=tuple(draw(resources(name)) for name in RESOURCES[: draw(st.integers(0, 3))]),
        experiments=tuple(draw(experiments(key)) for key in owners),
    )


def decided(snapshot: Snapshot, limits: Limits = LIMITS) -> Plan:
    return plan(snapshot, 0.0, limits)


def running_until(snapshot: Snapshot, experiment: str) -> float:
    """When the last task that runs is expected to end."""
    speed = {r.name: r.speed for r in snapshot.resources}
    mine = [g for g in snapshot.groups if g.experiment == experiment]
    return max((g.runtime.mean_s / speed[r] for g in mine for r in g.n_running if r in speed), default=0.0)


def total_of(made: Plan, group: str) -> int:
    return sum(share.total for share in made.of_group(group))


@relaxed
@given(snapshots(), KINDS)
def test_places_and_running_tasks_fit_every_resource(snapshot: Snapshot, limits: Limits) -> None:
    made = decided(snapshot, limits)
    by_key = {g.key: g for g in snapshot.groups}
    for resource in snapshot.resources:
        for dimension, capacity in resource.capacity.items():
            running = sum(g.n_running.get(resource.name, 0) * g.request[dimension] * g.nodes for g in snapshot.groups)
            held = sum(
                s.places * by_key[s.group].request[dimension] * by_key[s.group].nodes
                for s in made.of_resource(resource.name)
            )
            assert held <= max(capacity, running) + 1e-6


@relaxed
@given(snapshots(), KINDS)
def test_every_task_is_placed_or_has_a_reason(snapshot: Snapshot, limits: Limits) -> None:
    made = decided(snapshot, limits)
    for group in snapshot.groups:
        left = [u for u in made.unplaced if u.group == group.key]
        assert all(u.reasons and all(r.text for r in u.reasons) for u in left)
        assert total_of(made, group.key) + sum(u.count for u in left) == group.n_ready + group.n_blocked


@relaxed
@given(snapshots(), KINDS)
def test_denied_and_cut_off_resources_get_nothing(snapshot: Snapshot, limits: Limits) -> None:
    made = decided(snapshot, limits)
    by_key = {g.key: g for g in snapshot.groups}
    owner = {e.key: e for e in snapshot.experiments}
    closed = {r.name for r in snapshot.resources if r.cut_off}
    for share in made.shares:
        group = by_key[share.group]
        if group.n_running.get(share.resource, 0) == 0:
            assert share.resource not in owner[group.experiment].deny
            assert share.resource not in closed
        elif share.resource in owner[group.experiment].deny | closed:
            assert share.total == 0


@relaxed
@given(snapshots(), KINDS)
def test_budgets_hold(snapshot: Snapshot, limits: Limits) -> None:
    made = decided(snapshot, limits)
    budgets = {e.key: e.budget_left for e in snapshot.experiments}
    for forecast in made.forecasts:
        budget = budgets[forecast.experiment]
        assert budget is None or forecast.cost <= budget + 1e-6
    for share in made.shares:
        owner = next(g.experiment for g in snapshot.groups if g.key == share.group)
        assert budgets[owner] is None or share.quota is not None


@relaxed
@given(snapshots())
def test_hard_deadlines_hold(snapshot: Snapshot) -> None:
    made = decided(snapshot)
    for experiment in snapshot.experiments:
        for forecast in made.forecasts:
            if forecast.experiment == experiment.key and experiment.hard and experiment.deadline_at_s is not None:
                # What runs already is not ended for it.
                allowed = max(experiment.deadline_at_s, running_until(snapshot, experiment.key))
                assert forecast.finish_s <= allowed + 1e-6


@relaxed
@given(snapshots())
def test_the_same_input_gives_the_same_plan(snapshot: Snapshot) -> None:
    assert replace(decided(snapshot), spent_s=0.0) == replace(decided(snapshot), spent_s=0.0)


@relaxed
@given(snapshots())
def test_scaling_prices_scales_cost_and_moves_nothing(snapshot: Snapshot) -> None:
    dearer = replace(
        snapshot,
        resources=tuple(replace(r, price_per_hour=r.price_per_hour * 4) for r in snapshot.resources),
        experiments=tuple(
            replace(
                e,
                budget_left=None if e.budget_left is None else e.budget_left * 4,
                weights=replace(e.weights, seconds_per_money=e.weights.seconds_per_money / 4),
            )
            for e in snapshot.experiments
        ),
    )
    # The guards against rounding are absolute, so money must not be close to them.
    before, after = decided(snapshot), decided(dearer)
    assert sum(f.cost for f in after.forecasts) == pytest.approx(
        4 * sum(f.cost for f in before.forecasts), rel=0.02, abs=1e-6
    )


@relaxed
@given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.integers(1, 8), st.integers(0, 5))
def test_another_resource_never_makes_the_bound_worse(runtimes: list[int], cpu: int, price: int) -> None:
    made = tuple(
        TaskGroup(key=f"g{i}", experiment="e", request={"cpu": 1}, runtime=Estimate(mean_s=float(s)), n_ready=20)
        for i, s in enumerate(runtimes)
    )
    one = Resource(name="r0", capacity={"cpu": 4}, price_per_hour=2.0)
    two = Resource(name="r1", capacity={"cpu": float(cpu)}, price_per_hour=float(price))
    small = Snapshot(groups=made, resources=(one,), experiments=(Experiment(key="e"),))
    bounds = [decided(s).bound for s in (small, replace(small, resources=(one, two)))]
    assert bounds[0] is not None
    assert bounds[1] is not None
    assert bounds[1] <= bounds[0] * (1 + 1e-3)


@settings(relaxed, max_examples=60)
@given(snapshots(owners=("e0",)))
def test_the_objective_is_never_below_an_unconditional_bound(snapshot: Snapshot) -> None:
    made = decided(snapshot)
    if made.bound is not None:
        assert made.bound_scope == "any"
        assert made.objective >= made.bound - 1e-6 * max(1.0, abs(made.bound))


@relaxed
@given(snapshots())
def test_tasks_end_while_their_workers_live(snapshot: Snapshot) -> None:
    made = decided(snapshot)
    longest = {g.key: g.runtime.mean_s for g in snapshot.groups}
    for resource in snapshot.resources:
        for share in made.of_resource(resource.name):
            if share.total and resource.life_left_s is not None and not resource.offers:
                run_s = longest[share.group] / resource.speed
                assert share.start_in_s + run_s <= resource.queue_wait_s + resource.life_left_s + 1e-6
