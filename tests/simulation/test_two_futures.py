"""No planner that does not know the future is as good as every baseline on every draw of *bursts*.

Two draws of it are the same for their first three minutes: six resources at a low price, two at a higher one, and an
experiment of 192 tasks of a minute each. Whoever touches the dear ones then is worse than cost-only where nothing else
comes in time, and whoever does not is worse than earliest-deadline-first where seven more experiments come.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from airavata_scheduler.scheduler_core import BALANCED, Estimate, Limits, TaskGroup
from benchmarks.scheduling.instance import Instance
from benchmarks.scheduling.instances import SYNTHETIC
from benchmarks.scheduling.ours import Ours
from benchmarks.scheduling.policies import baselines
from benchmarks.scheduling.simulator import State

SLOTS, CHEAP_SLOTS = 64, 48
CHEAP, DEAR = 0.02, 0.05  #: for a slot and second, in seconds of the objective
TASKS = 192
LONG_S, SHORT_S = 60.0, 10.0
BURST_S = 180.0


def drawn(arrivals_s: list[float], runtimes_s: list[float]) -> Instance:
    """An instance that *bursts* can draw: eight slots and speed one everywhere, two groups to an experiment."""
    shape = SYNTHETIC["bursts"](random.Random(1), "bursts")
    prices = [CHEAP] * 6 + [DEAR] * 2
    resources = tuple(
        replace(r, capacity={"cpu": 8, "memory_bytes": 32e9}, speed=1.0, price_per_hour=8 * price)
        for r, price in zip(shape.resources, prices, strict=True)
    )
    groups = tuple(
        TaskGroup(
            key=f"e{e}.g{g}",
            experiment=f"e{e}",
            request={"cpu": 1, "memory_bytes": 1e9},
            runtime=Estimate(mean_s=runtime_s),
            n_ready=TASKS // 2,
        )
        for e, runtime_s in enumerate(runtimes_s)
        for g in range(2)
    )
    experiments = tuple(replace(e, submitted_at_s=at) for e, at in zip(shape.experiments, arrivals_s, strict=True))
    assert all(e.weights == BALANCED for e in experiments)
    arrival = {e.key: at for e, at in zip(experiments, arrivals_s, strict=True)}
    return replace(shape, resources=resources, experiments=experiments, groups=groups, arrival_s=arrival)


QUIET = drawn([300.0 * e for e in range(8)], [LONG_S] * 8)
BURST = drawn([0.0] + [BURST_S] * 7, [LONG_S] + [SHORT_S] * 7)


def objectives(instance: Instance) -> dict[str, float]:
    return {policy.name: State(instance, 0.0, 1).run(policy).objective for policy in baselines(1)}


def alone(dear_tasks: int) -> float:
    """The least objective of one experiment of long tasks, so many of them on dear slots; it has the platform alone.

    A slot runs one task at a time, so both kinds of slots work in rounds of a minute.
    """
    rounds = max(-(-(TASKS - dear_tasks) // CHEAP_SLOTS), -(-dear_tasks // (SLOTS - CHEAP_SLOTS)))
    return LONG_S * (rounds + (TASKS - dear_tasks) * CHEAP + dear_tasks * DEAR)


def least_after_a_burst() -> float:
    """A lower bound of BURST's objective for whoever has run nothing on dear slots before the burst.

    By then three rounds were possible on cheap slots. What is left is a fluid that all slots serve, the shortest first,
    which no schedule beats on the sum of finishes (Smith 1956), and all of it at the lower price.
    """
    left = TASKS - BURST_S / LONG_S * CHEAP_SLOTS
    works_s = sorted([left * LONG_S / SLOTS] + [TASKS * SHORT_S / SLOTS] * 7)
    finishes = BURST_S + sum(work * (8 - i) for i, work in enumerate(works_s))
    return finishes + CHEAP * TASKS * (LONG_S + 7 * SHORT_S)


def test_where_nothing_comes_in_time_cost_only_is_the_best_and_each_dear_task_a_loss() -> None:
    assert objectives(QUIET)["cost-only"] == pytest.approx(8 * alone(0))
    assert min(alone(n) for n in range(1, TASKS + 1)) == pytest.approx(alone(0) + LONG_S * (DEAR - CHEAP))


def test_where_a_burst_comes_whoever_left_the_dear_ones_idle_is_worse_than_earliest_deadline_first() -> None:
    assert least_after_a_burst() > 1.03 * objectives(BURST)["earliest-deadline-first"]


@pytest.mark.parametrize("instance", [QUIET, BURST], ids=["quiet", "burst"])
def test_both_can_be_drawn(instance: Instance) -> None:
    like = SYNTHETIC["bursts"](random.Random(2), "bursts")
    assert {r.price_per_hour / r.capacity["cpu"] for r in instance.resources} <= {0.02, 0.05, 0.2}
    assert {len(instance.groups), len(like.groups)} == {16}
    assert all(20 <= g.n_ready <= 120 and 10 <= g.runtime.mean_s <= 60 for g in instance.groups)
    assert instance.arrivals_per_s == like.arrivals_per_s


def test_ours_is_worse_in_one_of_the_two_futures() -> None:
    worse = []
    for instance in (QUIET, BURST):
        ours = State(instance, 0.0, 1).run(Ours(Limits(detail_tasks=4000, effort=10_000))).objective
        worse.append(ours > min(objectives(instance).values()) + 1e-6)
    assert any(worse)
