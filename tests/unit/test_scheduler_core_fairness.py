"""Who gets places when there are too few."""

from __future__ import annotations

from airavata_scheduler.scheduler_core import (
    Estimate,
    Experiment,
    Limits,
    Plan,
    Project,
    Resource,
    Snapshot,
    TaskGroup,
    WorkerOffer,
    plan,
)


def group(experiment: str, n: int, **more: object) -> TaskGroup:
    values: dict[str, object] = {
        "key": f"{experiment}.g",
        "experiment": experiment,
        "request": {"cpu": 1},
        "runtime": Estimate(mean_s=60.0),
        "n_ready": n,
    }
    return TaskGroup(**(values | more))  # type: ignore[arg-type]


def snapshot(
    *groups: TaskGroup, weights: dict[str, float] | None = None, cpu: float = 12, **keyed: Experiment
) -> Snapshot:
    keys = dict.fromkeys(g.experiment for g in groups)
    return Snapshot(
        groups=groups,
        resources=(Resource(name="r", capacity={"cpu": cpu}),),
        experiments=tuple(keyed.get(key, Experiment(key=key, project=key)) for key in keys),
        projects=tuple(Project(key=k, weight=w) for k, w in (weights or {}).items()),
    )


def places(made: Plan) -> dict[str, int]:
    return {share.group.split(".")[0]: share.places for share in made.shares}


def test_a_sweep_of_a_million_does_not_keep_a_ten_task_experiment_waiting() -> None:
    made = plan(snapshot(group("sweep", 1_000_000), group("small", 10)), 0.0)
    assert places(made)["small"] >= 5


def test_nor_within_one_project() -> None:
    owners = {key: Experiment(key=key, project="p") for key in ("sweep", "small")}
    made = plan(snapshot(group("sweep", 1_000_000), group("small", 10), **owners), 0.0)
    assert places(made)["small"] == 10


def test_projects_share_by_their_weights() -> None:
    made = plan(snapshot(group("a", 5000), group("b", 5000), weights={"a": 2.0, "b": 1.0}), 0.0)
    assert places(made) == {"a": 8, "b": 4}


def test_what_runs_already_counts() -> None:
    held = group("a", 5000, n_running={"r": 6})
    made = plan(snapshot(held, group("b", 5000)), 0.0)
    assert places(made) == {"a": 6, "b": 6}


def test_the_dominant_resource_is_what_is_shared() -> None:
    heavy = group("a", 5000, request={"cpu": 1, "memory": 4})
    light = group("b", 5000, request={"cpu": 1, "memory": 0})
    both = snapshot(heavy, light)
    room = Snapshot(
        groups=both.groups,
        resources=(Resource(name="r", capacity={"cpu": 18, "memory": 36}),),
        experiments=both.experiments,
    )
    given = places(plan(room, 0.0))
    # a holds 4/36 of memory a task, b 1/18 of cpu: equal dominant shares mean twice as many of b.
    assert given["b"] == 2 * given["a"]


def test_priority_decides_within_a_project_and_ageing_lifts_what_waits() -> None:
    high = Experiment(key="high", project="p", priority=1, submitted_at_s=7000.0)
    low = Experiment(key="low", project="p", priority=0, submitted_at_s=0.0)
    both = snapshot(group("low", 5000), group("high", 5000), high=high, low=low)
    assert places(plan(both, 7000.0, Limits(ageing_s=1e6)))["high"] == 12
    assert places(plan(both, 7300.0, Limits(ageing_s=3600.0)))["low"] == 12


def test_gangs_and_large_tasks_hold_their_turn() -> None:
    gang = group("gang", 2, nodes=2, request={"cpu": 4})
    room = Resource(name="r", capacity={"cpu": 16}, largest={"cpu": 4}, workers=4)
    made = plan(
        Snapshot(
            groups=(group("sweep", 1_000_000), gang),
            resources=(room,),
            experiments=(Experiment(key="sweep", project="a"), Experiment(key="gang", project="b")),
        ),
        0.0,
    )
    (share,) = made.of_group("gang.g")
    assert share.places >= 1
    assert share.reserve


def test_worker_targets_follow_the_work() -> None:
    offer = WorkerOffer(size={"cpu": 4}, max_workers=10, queue_wait=Estimate(mean_s=30.0), walltime_s=3600.0)
    cloud = Resource(name="cloud", capacity={}, workers=0, offers=(offer,))
    owner = (Experiment(key="e"),)
    busy = plan(Snapshot(groups=(group("e", 400),), resources=(cloud,), experiments=owner), 0.0)
    assert busy.targets[0].start == 10
    assert busy.targets[0].walltime_s is not None
    assert 600 <= busy.targets[0].walltime_s <= 3600
    idle = plan(Snapshot(groups=(), resources=(cloud,), experiments=owner), 0.0)
    assert idle.targets[0].start == 0
