"""The obstacle that an explanation names is the obstacle: lifting it makes the task run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from airavata_scheduler.scheduler_core import (
    Cause,
    Estimate,
    Experiment,
    Limits,
    Link,
    Resource,
    Snapshot,
    SnapshotError,
    TaskGroup,
    explain,
    plan,
)

Change = Callable[[Snapshot], Snapshot]


def simple() -> Snapshot:
    """One task that runs on the only resource."""
    return Snapshot(
        groups=(TaskGroup(key="g", experiment="e", request={"cpu": 2}, runtime=Estimate(mean_s=100.0), n_ready=1),),
        resources=(Resource(name="r", capacity={"cpu": 4}, price_per_hour=3.6),),
        experiments=(Experiment(key="e", project="p"),),
    )


def group(**changes: object) -> Change:
    return lambda s: replace(s, groups=(replace(s.groups[0], **changes),))  # type: ignore[arg-type]


def resource(**changes: object) -> Change:
    return lambda s: replace(s, resources=(replace(s.resources[0], **changes),))  # type: ignore[arg-type]


def experiment(**changes: object) -> Change:
    return lambda s: replace(s, experiments=(replace(s.experiments[0], **changes),))  # type: ignore[arg-type]


def far_data(s: Snapshot) -> Snapshot:
    links = (Link(source="store", target="site", bandwidth_bytes_per_s=0.0),)
    near = replace(s.resources[0], location="site")
    return replace(s, groups=(replace(s.groups[0], inputs={"store": 1e6}),), resources=(near,), links=links)


def near_data(s: Snapshot) -> Snapshot:
    return replace(s, links=(replace(s.links[0], bandwidth_bytes_per_s=1e6),))


CASES: list[tuple[Cause, Change, Change]] = [
    (Cause.CUT_OFF, resource(cut_off="no heartbeat"), resource(cut_off="")),
    (Cause.DENIED, experiment(deny=frozenset({"r"})), experiment(deny=frozenset())),
    (Cause.DENIED, experiment(allow=frozenset({"other"})), experiment(allow=frozenset({"r"}))),
    (Cause.PERMISSION, resource(usable_by=frozenset({"q"})), resource(usable_by=frozenset({"p"}))),
    (Cause.CREDENTIAL, resource(credential_until_s=50.0), resource(credential_until_s=101.0)),
    (Cause.LABEL, group(labels=frozenset({"avx"})), resource(labels=frozenset({"avx"}))),
    (Cause.AVOIDED, group(avoid=frozenset({"r"})), group(avoid=frozenset())),
    (Cause.TOO_LARGE, group(request={"cpu": 5}), group(request={"cpu": 4})),
    (Cause.TOO_FEW_WORKERS, group(nodes=2), resource(workers=2)),
    (Cause.LIFE, resource(life_left_s=90.0), resource(life_left_s=100.0)),
    (Cause.UNREACHABLE_DATA, far_data, near_data),
    (Cause.DEADLINE, experiment(deadline_at_s=90.0, hard=True), experiment(deadline_at_s=100.0)),
    (Cause.BUDGET, experiment(budget_left=0.04), experiment(budget_left=0.051)),
]


@pytest.mark.parametrize(("cause", "obstruct", "lift"), CASES, ids=lambda v: str(v) if isinstance(v, Cause) else "")
def test_lifting_the_named_obstacle_makes_the_task_run(cause: Cause, obstruct: Change, lift: Change) -> None:
    stuck = obstruct(simple())
    before = plan(stuck, 0.0)
    told = explain(stuck, before, 0.0, "g")
    assert [share.total for share in before.of_group("g")] in ([], [0])
    assert cause in {reason.cause for reason in (*told.reasons, *told.verdicts)}
    assert told.unplaced == 1
    assert any(told.lines())
    freed = plan(lift(stuck), 0.0)
    assert [share.total for share in freed.of_group("g")] == [1]
    assert not freed.unplaced


def test_the_missing_amount_is_what_is_missing() -> None:
    stuck = experiment(budget_left=0.04)(simple())
    (left,) = plan(stuck, 0.0).unplaced
    assert left.reasons[0].amount == pytest.approx(0.01)


def test_a_dearer_resource_is_named_dearer_and_becomes_the_choice_when_its_price_falls() -> None:
    dear = Resource(name="dear", capacity={"cpu": 4}, price_per_hour=360.0)
    two = replace(simple(), resources=(*simple().resources, dear))
    told = explain(two, plan(two, 0.0), 0.0, "g")
    assert [v.cause for v in told.verdicts] == [Cause.CHOSEN, Cause.DEARER]
    assert told.expected_resource == "r"
    assert told.expected_start_s == 0.0
    fallen = replace(two, resources=(two.resources[0], replace(dear, price_per_hour=0.0)))
    assert plan(fallen, 0.0).of_group("g")[0].resource == "dear"


def test_a_resource_that_would_be_late_says_by_how_much() -> None:
    slow = Resource(name="slow", capacity={"cpu": 4}, speed=0.25)
    two = replace(simple(), resources=(*simple().resources, slow))
    due = experiment(deadline_at_s=150.0)(two)
    told = explain(due, plan(due, 0.0), 0.0, "g")
    assert "slow: feasible, but a task would end 250 s after the deadline" in [
        verdict.text for verdict in told.verdicts
    ]


def test_without_resources_the_reason_says_so() -> None:
    bare = replace(simple(), resources=())
    assert plan(bare, 0.0).unplaced[0].reasons[0].cause is Cause.NO_RESOURCE


def test_tasks_behind_tasks_without_a_place_say_what_they_wait_for() -> None:
    first = replace(simple().groups[0], request={"gpu": 1})
    second = TaskGroup(
        key="h", experiment="e", request={"cpu": 1}, runtime=Estimate(mean_s=1.0), n_blocked=1, after=("g",)
    )
    made = plan(replace(simple(), groups=(first, second)), 0.0)
    (left,) = [u for u in made.unplaced if u.group == "h"]
    assert left.reasons[0].cause is Cause.BLOCKED
    assert "g" in left.reasons[0].text


def test_an_unknown_group_is_an_error_that_names_it() -> None:
    with pytest.raises(SnapshotError, match="nobody"):
        explain(simple(), plan(simple(), 0.0), 0.0, "nobody")


@pytest.mark.parametrize(
    ("request_", "sizes", "dimension", "text"),
    [
        ({"cpu": 4, "memory_bytes": 16e9}, [(8, 4e9), (2, 64e9)], "", "no single worker has all that a task needs"),
        ({"cpu": 100, "memory_bytes": 17e9}, [(4, 16e9)], "cpu", "a task needs 100 cpu, a worker has 4 cpu"),
    ],
)
def test_too_large_is_told_in_the_dimension_that_lacks(
    request_: dict[str, float], sizes: list[tuple[float, float]], dimension: str, text: str
) -> None:
    kinds = tuple(({"cpu": cpu, "memory_bytes": memory}, 1) for cpu, memory in sizes)
    whole = {name: sum(size[name] for size, _ in kinds) for name in ("cpu", "memory_bytes")}
    largest = {name: max(size[name] for size, _ in kinds) for name in ("cpu", "memory_bytes")}
    place = resource(capacity=whole, largest=largest, workers=len(kinds), sizes=kinds if len(kinds) > 1 else ())
    (left,) = plan(place(group(request=request_)(simple())), 0.0).unplaced
    assert (left.reasons[0].cause, left.reasons[0].dimension) == (Cause.TOO_LARGE, dimension)
    assert text in left.reasons[0].text


def test_where_there_is_nothing_at_all_a_task_that_needs_nothing_has_no_place_either() -> None:
    (left,) = plan(resource(capacity={}, workers=0)(group(request={})(simple())), 0.0).unplaced
    assert left.reasons


def test_where_tasks_only_run_on_is_not_where_the_next_will_start() -> None:
    closed = resource(cut_off="disabled")(group(n_ready=2, n_running={"r": 2})(simple()))
    both = replace(closed, resources=(*closed.resources, Resource(name="r2", capacity={"cpu": 4})))
    told = explain(both, plan(both, 0.0), 0.0, "g")
    assert told.expected_resource == "r2"
    assert [verdict.cause for verdict in told.verdicts] == [Cause.CUT_OFF, Cause.CHOSEN]


@pytest.mark.parametrize("end", [{"credential_until_s": 100.0}, {"life_left_s": 100.0}], ids=["credential", "life"])
def test_a_fluid_ends_where_a_credential_or_the_life_of_workers_does(end: dict[str, float]) -> None:
    many = group(n_ready=1000, request={"cpu": 1}, runtime=Estimate(mean_s=60.0))(
        resource(capacity={"cpu": 1}, price_per_hour=0.0, **end)(simple())
    )
    slow = Resource(name="slow", capacity={"cpu": 1}, speed=0.5)
    made = plan(replace(many, resources=(*many.resources, slow)), 0.0, Limits(detail_tasks=0))
    there = {share.resource: share for share in made.shares}
    assert there["r"].quota == there["r"].total == 1
    assert there["slow"].quota is None
    assert there["slow"].total == 999


def test_a_limit_of_tasks_at_a_time_costs_nothing() -> None:
    hour = group(request={"cpu": 1}, runtime=Estimate(mean_s=3600.0))
    place = resource(capacity={"cpu": 64}, price_per_hour=64.0, max_tasks=1)
    (forecast,) = plan(place(hour(simple())), 0.0).forecasts
    assert forecast.cost == pytest.approx(1.0)
