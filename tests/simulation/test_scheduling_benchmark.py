"""The planner against the baselines, on the benchmark's simulator."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airavata_scheduler.scheduler_core import Limits
from benchmarks.scheduling.instances import SYNTHETIC, instances
from benchmarks.scheduling.ours import Ours, arrivals_per_s
from benchmarks.scheduling.policies import baselines
from benchmarks.scheduling.simulator import State
from benchmarks.scheduling.workflows import SHAPES, generate

QUICK = Limits(detail_tasks=4000, effort=10_000)


def test_instances_depend_on_their_seed_only() -> None:
    assert instances(7) == instances(7)
    assert instances(7) != instances(8)
    assert len(instances(7)) == len(SYNTHETIC) + len(SHAPES)


@pytest.mark.parametrize(
    ("name", "seed"),
    [("prices", 1), ("deadlines", 1), ("wf-epigenomics", 1), ("bursts", 134), ("bursts", 331), ("bursts", 518)],
)
def test_ours_beats_the_best_baseline(name: str, seed: int) -> None:
    instance = next(i for i in instances(seed) if i.name == name)
    ours = State(instance, 0.0, seed).run(Ours(QUICK))
    rivals = [State(instance, 0.0, seed).run(policy) for policy in baselines(seed)]
    assert ours.unplaced == 0
    assert ours.objective < min(rival.objective for rival in rivals)


def test_arrivals_are_those_of_the_last_hour_and_of_the_history_before() -> None:
    bursts = next(i for i in instances(1) if i.name == "bursts")
    state = State(bursts, 0.0, 1)
    assert arrivals_per_s(state) == pytest.approx(1 / 60)
    assert arrivals_per_s(State(replace(bursts, arrivals_per_s=0.0), 0.0, 1)) == 0.0
    state.now = 1800.0
    assert arrivals_per_s(state) == pytest.approx((len(bursts.arrival_s) - 1) / 3600 + 1 / 120)
    state.now = 1e5
    assert arrivals_per_s(state) == 0.0


def test_the_simulation_is_what_the_plan_promised() -> None:
    instance = next(i for i in instances(1) if i.name == "speeds")
    policy = Ours(QUICK)
    score = State(instance, 0.0, 1).run(policy)
    assert score.objective == pytest.approx(policy.plans[0].objective, rel=1e-6)
    (forecast,) = policy.plans[0].forecasts
    assert score.cost == pytest.approx(forecast.cost)
    assert score.makespan_s == pytest.approx(forecast.finish_s)


def test_no_policy_overspends_a_budget() -> None:
    instance = next(i for i in instances(1) if i.name == "budget")
    (experiment,) = instance.experiments
    for policy in [Ours(QUICK), *baselines(1)]:
        score = State(instance, 0.0, 1).run(policy)
        assert experiment.budget_left is not None
        assert score.cost <= experiment.budget_left + 1e-9


@pytest.mark.parametrize("shape", SHAPES)
def test_workflows_are_wfformat_with_parents_before_children(shape: str) -> None:
    tasks = generate(shape, 100, 3)["workflow"]["specification"]["tasks"]
    seen: set[str] = set()
    for task in tasks:
        assert set(task["parents"]) <= seen
        seen.add(task["id"])
