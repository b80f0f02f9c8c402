"""Runs policies on instances and makes the lines of the contract."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from airavata_scheduler.scheduler_core import plan

from .instance import Instance
from .instances import instances
from .ours import LIMITS, Ours, observe
from .policies import baselines
from .scale import measure, scaled
from .simulator import Score, State

#: Under runtime errors our policy plans again this many times over the expected length of an instance.
REPLANS = 10


@dataclass(frozen=True, slots=True)
class Line:
    """One instance and policy; seconds, money, tasks that ended late, bytes, gap to the LP bound, milliseconds.

    ``regret``, with runtime errors only: how much worse than the same policy does when every runtime is as estimated.
    """

    instance: str
    policy: str
    objective: float
    cost: float
    makespan_s: float
    missed: int
    bytes: float
    gap: float | None
    solve_ms: float | None
    regret: float | None = None

    def as_json(self) -> dict[str, object]:
        """The line as the contract names its fields; the regret is added where there is one."""
        return {name: value for name, value in asdict(self).items() if name != "regret" or value is not None}


def lines(seed: int, chosen: list[str] | None = None, error: float = 0.0) -> Iterator[Line]:
    """Every policy on every instance (or the chosen ones), then the large planning problems."""
    for instance in instances(seed):
        if chosen is None or instance.name in chosen:
            yield from compare(instance, seed, error)
    if error == 0.0:
        for problem in scaled(seed):
            if chosen is None or problem.name in chosen:
                decided, seconds = measure(problem)
                yield Line(
                    instance=problem.name,
                    policy="ours",
                    objective=decided.objective,
                    cost=sum(f.cost for f in decided.forecasts),
                    makespan_s=max(f.finish_s for f in decided.forecasts),
                    missed=0,
                    bytes=sum(f.moved_bytes for f in decided.forecasts),
                    gap=decided.gap,
                    solve_ms=seconds * 1000.0,
                )


def compare(instance: Instance, seed: int, error: float) -> Iterator[Line]:
    """Ours, every baseline, and the LP bound where it is one, on one instance."""
    ours = Ours(every_s=_replan_every(instance) if error else None)
    score = State(instance, error, seed).run(ours)
    first = ours.plans[0]
    bound = first.bound if instance.bounded and first.bound_scope == "any" and not error else None
    exact = [State(instance, 0.0, seed).run(policy).objective for policy in (Ours(), *baselines(seed))] if error else []
    regrets = iter(exact)
    yield _line(instance, "ours", score, bound, max(ours.solve_s) * 1000.0, next(regrets, None))
    for policy in baselines(seed):
        yield _line(instance, policy.name, State(instance, error, seed).run(policy), bound, None, next(regrets, None))
    if bound is not None:
        yield Line(instance.name, "lp-bound", bound, 0.0, 0.0, 0, 0.0, 0.0, None)


def _replan_every(instance: Instance) -> float:
    """A tenth of how long the instance is expected to take, were all of it known at the start."""
    state = State(replace(instance, arrival_s={}), 0.0, 0)
    for experiment in instance.experiments:
        state.arrive(experiment.key)
    decided = plan(observe(state), 0.0, replace(LIMITS, effort=0))
    return max((f.finish_s for f in decided.forecasts), default=1.0) / REPLANS


def _line(
    instance: Instance, policy: str, score: Score, bound: float | None, solve_ms: float | None, exact: float | None
) -> Line:
    return Line(
        instance=instance.name,
        policy=policy,
        objective=score.objective,
        cost=score.cost,
        makespan_s=score.makespan_s,
        missed=score.missed,
        bytes=score.moved_bytes,
        gap=None if bound is None else (score.objective - bound) / bound,
        solve_ms=solve_ms,
        regret=None if exact is None else score.objective / exact - 1.0,
    )
