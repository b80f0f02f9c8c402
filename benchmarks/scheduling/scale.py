"""The two large planning problems whose time is measured: one whole call of `plan`, nothing else."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from airavata_scheduler.scheduler_core import Estimate, Experiment, Limits, Plan, Resource, Snapshot, TaskGroup, plan

_GB = 1e9
_REPEATS = 3


@dataclass(frozen=True, slots=True)
class Scaled:
    """A snapshot and the limits it is planned with."""

    name: str
    snapshot: Snapshot
    limits: Limits


def scaled(seed: int) -> list[Scaled]:
    """100k tasks in 100 classes with three capacity rows and budgets, and 1M tasks in 1,000 classes as a flow."""
    return [
        _make("plan-100k", seed, 100, 100_000, ("cpu", "memory_bytes", "gpu"), True, Limits()),
        _make("plan-1m", seed, 1000, 1_000_000, ("cpu",), False, Limits(max_classes=1000, window_s=86_400.0)),
    ]


def _make(
    name: str, seed: int, n_groups: int, n_tasks: int, dims: tuple[str, ...], budgets: bool, limits: Limits
) -> Scaled:
    dice = random.Random(f"{name} {seed}")  # noqa: S311 - seeded on purpose, no secret
    resources = tuple(
        Resource(
            name=f"r{i}",
            capacity=_vector(
                dims, dice.choice((64, 128, 256, 512)), dice.choice((256, 512, 1024)), dice.choice((0, 8, 16))
            ),
            largest=_vector(dims, 64, 256, 8),
            price_per_hour=dice.uniform(0.5, 5.0),
            speed=dice.uniform(0.5, 2.0),
        )
        for i in range(100)
    )
    groups = tuple(
        TaskGroup(
            key=f"g{i}",
            experiment=f"e{i % 10}",
            request=_vector(
                dims, dice.choice((1, 2, 4)) if len(dims) > 1 else 1, dice.choice((2, 4, 8, 16)), dice.random() < 0.1
            ),
            runtime=Estimate(mean_s=dice.uniform(10, 1000)),
            n_ready=n_tasks // n_groups,
        )
        for i in range(n_groups)
    )
    free = Snapshot(groups=groups, resources=resources, experiments=tuple(Experiment(key=f"e{i}") for i in range(10)))
    if not budgets:
        return Scaled(name, free, limits)
    # Budgets that bind: nine tenths of what each experiment would spend without one.
    spent = {f.experiment: f.cost for f in plan(free, 0.0, limits).forecasts}
    experiments = tuple(Experiment(key=key, budget_left=0.9 * cost) for key, cost in spent.items())
    return Scaled(name, Snapshot(groups=groups, resources=resources, experiments=experiments), limits)


def _vector(dims: tuple[str, ...], cpu: float, memory_gb: float, gpu: float) -> dict[str, float]:
    full = {"cpu": float(cpu), "memory_bytes": memory_gb * _GB, "gpu": float(gpu)}
    return {name: full[name] for name in dims}


def measure(problem: Scaled) -> tuple[Plan, float]:
    """The plan, and the median seconds of a few whole calls after one to warm up."""
    decided = plan(problem.snapshot, 0.0, problem.limits)
    times = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        decided = plan(problem.snapshot, 0.0, problem.limits)
        times.append(time.perf_counter() - started)
    return decided, sorted(times)[_REPEATS // 2]
