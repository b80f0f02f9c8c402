"""The synthetic instances, each with one difficulty, and the scientific workflows; all from a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from airavata_scheduler.scheduler_core import (
    BALANCED,
    CHEAPEST,
    FASTEST,
    Estimate,
    Experiment,
    Link,
    Resource,
    TaskGroup,
    Weights,
)

from .instance import Instance
from .workflows import SHAPES, generate, read

_GB = 1e9
_BETWEEN_BURSTS_S = 60.0


def instances(seed: int) -> list[Instance]:
    """Every instance of the benchmark for one seed."""
    made = [make(random.Random(f"{name} {seed}"), name) for name, make in SYNTHETIC.items()]  # noqa: S311 - seeded on purpose, no secret
    return made + [workflow(shape, seed) for shape in SHAPES]


def cluster(
    dice: random.Random, n: int, slots: tuple[int, ...], speeds: tuple[float, ...], prices: tuple[float, ...]
) -> tuple[Resource, ...]:
    """Resources `r0`, `r1`, … with sizes, speeds and prices (per slot and hour) drawn from the given values."""
    resources = []
    for i in range(n):
        size = dice.choice(slots)
        resources.append(
            Resource(
                name=f"r{i}",
                capacity={"cpu": size, "memory_bytes": size * 4 * _GB},
                speed=dice.choice(speeds),
                price_per_hour=dice.choice(prices) * size,
                location=f"site{i % 4}",
            )
        )
    return tuple(resources)


def sweep(
    dice: random.Random, experiment: str, n_groups: int, tasks: int, runtime_s: tuple[float, float]
) -> tuple[TaskGroup, ...]:
    """Groups of single-core tasks with runtimes drawn log-uniformly between two values."""
    return tuple(
        TaskGroup(
            key=f"{experiment}.g{i}",
            experiment=experiment,
            request={"cpu": 1, "memory_bytes": dice.choice((1, 2)) * _GB},
            runtime=Estimate(mean_s=_log_uniform(dice, *runtime_s)),
            n_ready=tasks,
        )
        for i in range(n_groups)
    )


def _log_uniform(dice: random.Random, low: float, high: float) -> float:
    return math.exp(dice.uniform(math.log(low), math.log(high)))


def _homogeneous(dice: random.Random, name: str) -> Instance:
    resources = cluster(dice, 8, (8,), (1.0,), (0.05,))
    groups = sweep(dice, "e", 15, 120, (3, 90))
    return Instance(name, resources, (Experiment(key="e", weights=FASTEST),), groups, bounded=True)


def _speeds(dice: random.Random, name: str) -> Instance:
    resources = cluster(dice, 10, (4, 8, 16), (0.5, 1.0, 1.5, 2.0, 3.0), (0.02, 0.05, 0.1, 0.2))
    groups = sweep(dice, "e", 15, 120, (3, 90))
    return Instance(name, resources, (Experiment(key="e", weights=BALANCED),), groups, bounded=True)


def _prices(dice: random.Random, name: str) -> Instance:
    resources = cluster(dice, 10, (4, 8, 16), (1.0, 1.2, 2.0), (0.01, 0.03, 0.1, 0.5, 1.0))
    groups = sweep(dice, "e", 15, 120, (3, 90))
    return Instance(name, resources, (Experiment(key="e", weights=Weights(time=1.0, cost=0.5)),), groups, bounded=True)


def _data(dice: random.Random, name: str) -> Instance:
    resources = cluster(dice, 8, (8, 16), (1.0, 1.5), (0.02, 0.05))
    links = tuple(
        Link(
            source=f"site{a}",
            target=f"site{b}",
            bandwidth_bytes_per_s=dice.choice((20e6, 50e6, 200e6)),
            price_per_gb=dice.choice((0.0, 0.01, 0.05)),
        )
        for a in range(4)
        for b in range(4)
        if a != b
    )
    groups = tuple(
        TaskGroup(
            key=f"e.g{i}",
            experiment="e",
            request={"cpu": 1, "memory_bytes": _GB},
            runtime=Estimate(mean_s=_log_uniform(dice, 3, 90)),
            n_ready=100,
            inputs={f"site{dice.choice((0, 0, 0, 1, 2))}": dice.uniform(0.2, 2.0) * _GB},
        )
        for i in range(16)
    )
    experiment = Experiment(key="e", weights=Weights(locality=0.2))
    return Instance(name, resources, (experiment,), groups, links, bounded=True)


def _deadlines(dice: random.Random, name: str) -> Instance:
    resources = cluster(dice, 8, (4, 8), (0.5, 1.0, 2.0), (0.02, 0.05, 0.2))
    pace = sum(r.capacity["cpu"] * r.speed for r in resources)
    experiments: list[Experiment] = []
    groups: list[TaskGroup] = []
    work = 0.0
    for i in range(14):
        mine = sweep(dice, f"e{i}", 2, dice.randint(10, 50), (20, 90))
        work += sum(g.n_ready * g.runtime.mean_s for g in mine)
        due = max(work / pace * dice.uniform(0.85, 1.5), 120.0)
        weights = Weights(time=0.05, cost=0.2, deadline=20.0)
        experiments.append(Experiment(key=f"e{i}", weights=weights, deadline_at_s=due))
        groups.extend(mine)
    dice.shuffle(groups)
    return Instance(name, resources, tuple(experiments), tuple(groups))


def _budget(dice: random.Random, name: str) -> Instance:
    resources = cluster(dice, 6, (4, 8), (0.5, 1.0, 2.0, 3.0), (0.01, 0.05, 0.2, 0.5))
    groups = sweep(dice, "e", 15, 120, (3, 60))
    hours = sum(g.n_ready * g.runtime.mean_s for g in groups) / 3600.0
    parts = [r.price_per_hour / r.capacity["cpu"] / r.speed for r in resources]
    least, mean = min(parts) * hours, sum(parts) / len(parts) * hours
    experiment = Experiment(key="e", weights=FASTEST, budget_left=least + (mean - least) * dice.uniform(0.25, 0.6))
    return Instance(name, resources, (experiment,), groups, bounded=True)


def _gangs(dice: random.Random, name: str) -> Instance:
    resources = tuple(
        Resource(
            name=f"r{i}",
            capacity={"cpu": 64, "memory_bytes": 256 * _GB},
            largest={"cpu": 16, "memory_bytes": 64 * _GB},
            workers=4,
            speed=dice.choice((1.0, 1.5, 2.0)),
            price_per_hour=dice.choice((0.4, 0.8, 2.0)),
        )
        for i in range(4)
    )
    small = sweep(dice, "small", 8, 150, (10, 40))
    gangs = tuple(
        TaskGroup(
            key=f"gang.g{i}",
            experiment="gang",
            request={"cpu": 16, "memory_bytes": 8 * _GB},
            nodes=dice.choice((2, 3, 4)),
            runtime=Estimate(mean_s=dice.uniform(60, 200)),
            n_ready=dice.randint(2, 5),
        )
        for i in range(5)
    )
    experiments = (Experiment(key="small", weights=BALANCED), Experiment(key="gang", weights=BALANCED))
    return Instance(name, resources, experiments, small + gangs)


def _bursts(dice: random.Random, name: str) -> Instance:
    resources = cluster(dice, 8, (4, 8), (0.5, 1.0, 2.0), (0.02, 0.05, 0.2))
    experiments: list[Experiment] = []
    groups: list[TaskGroup] = []
    arrival: dict[str, float] = {}
    at = 0.0
    for i in range(8):
        experiments.append(Experiment(key=f"e{i}", weights=BALANCED, submitted_at_s=at))
        groups.extend(sweep(dice, f"e{i}", 2, dice.randint(20, 120), (10, 60)))
        arrival[f"e{i}"] = at
        at += dice.expovariate(1 / _BETWEEN_BURSTS_S)
    rate = 1 / _BETWEEN_BURSTS_S
    return Instance(name, resources, tuple(experiments), tuple(groups), arrival_s=arrival, arrivals_per_s=rate)


def _dag(dice: random.Random, name: str) -> Instance:
    resources = cluster(dice, 8, (4, 8), (0.5, 1.0, 2.0), (0.02, 0.05, 0.2))
    groups: list[TaskGroup] = []
    runtimes = [dice.uniform(10, 60) for _ in range(8)]
    for lane in range(5):
        for level in range(4):
            mean = runtimes[(lane + level) % 8]
            rest = sum(runtimes[(lane + k) % 8] for k in range(level + 1, 4)) + 60.0
            after = (f"e.l{lane}.{level - 1}",) if level else ()
            groups.append(
                TaskGroup(
                    key=f"e.l{lane}.{level}",
                    experiment="e",
                    request={"cpu": 1, "memory_bytes": _GB},
                    runtime=Estimate(mean_s=mean),
                    n_ready=0 if level else 60,
                    n_blocked=60 if level else 0,
                    after=after,
                    rank_s=rest,
                )
            )
    groups.append(
        TaskGroup(
            key="e.gather",
            experiment="e",
            request={"cpu": 2, "memory_bytes": 2 * _GB},
            runtime=Estimate(mean_s=60.0),
            n_blocked=1,
            after=tuple(f"e.l{lane}.3" for lane in range(5)),
        )
    )
    return Instance(name, resources, (Experiment(key="e", weights=BALANCED),), tuple(groups))


def workflow(shape: str, seed: int) -> Instance:
    """A scientific workflow of about 250 tasks on four sites, with its inputs at the first."""
    dice = random.Random(f"workflow {shape} {seed}")  # noqa: S311 - seeded on purpose, no secret
    resources = cluster(dice, 6, (4, 8), (0.75, 1.0, 2.0), (0.03, 0.05, 0.2))
    weights = {"montage": BALANCED, "epigenomics": FASTEST, "cybershake": BALANCED, "seismology": CHEAPEST}[shape]
    experiment = Experiment(key=shape, weights=weights)
    groups = read(generate(shape, 250, seed), experiment, "site0")
    return Instance(f"wf-{shape}", resources, (experiment,), groups)


SYNTHETIC: dict[str, Callable[[random.Random, str], Instance]] = {
    "homogeneous": _homogeneous,
    "speeds": _speeds,
    "prices": _prices,
    "data": _data,
    "deadlines": _deadlines,
    "budget": _budget,
    "gangs": _gangs,
    "bursts": _bursts,
    "dag": _dag,
}
