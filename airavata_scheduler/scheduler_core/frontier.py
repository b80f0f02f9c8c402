"""The frontier of cost and time: plans of which none is better in both, for an experiment before it is launched.

The cheapest and the fastest plan mark the ends. Between them the budget is set to evenly spaced amounts and the time is
made as short as it allows (the epsilon-constraint method), which finds plans no weighting of the two would find. What
is dominated is dropped; steps are looked into until there are enough points or no new ones are found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from .errors import SnapshotError
from .plan import Forecast, Plan
from .planner import plan
from .snapshot import CHEAPEST, FASTEST, Experiment, Limits, Snapshot, Weights

_ROUNDS = 4
#: Steps of the frontier that are looked into in a round, and the part of a step by which a budget is just too small.
_STEPS = 8
_JUST = 1e-3
#: A plan is to be run with this much more than it is expected to cost: runtimes vary, and money that just suffices for
#: the expected ones would pause it before its end. With much more, it would be another plan.
BUDGET_MARGIN = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One plan of the frontier; `number` counts from 1.

    `weights` and `budget` are what to run the experiment with to get it (None: the budget it has, if any).
    """

    number: int
    finish_s: float
    finish_low_s: float
    finish_high_s: float
    cost: float
    moved_bytes: float
    deadline_risk: float
    budget: float | None
    weights: Weights
    plan: Plan


def frontier(
    snapshot: Snapshot, now: float, experiment: str, points: int = 8, limits: Limits | None = None
) -> tuple[Point, ...]:
    """Non-dominated plans for one experiment, fastest first; fewer than `points` only if there are no more.

    Raises SnapshotError for an unknown experiment.
    """
    limits = Limits() if limits is None else limits
    own = next((e for e in snapshot.experiments if e.key == experiment), None)
    if own is None:
        raise SnapshotError("experiment", experiment, "name an experiment of the snapshot")
    tried: list[Point] = []
    ends = (replace(CHEAPEST, deadline=0.0), replace(FASTEST, cost=1e-6, deadline=0.0))
    tried.extend(_point(snapshot, now, own, weights, own.budget_left, limits) for weights in ends)
    low, high = min(p.cost for p in tried), max(p.cost for p in tried)
    budgets = [low + (high - low) * (i / (points + 2)) ** 1.5 for i in range(1, points + 3)]
    for _ in range(_ROUNDS):
        tried.extend(_point(snapshot, now, own, replace(FASTEST, cost=1e-6, deadline=0.0), b, limits) for b in budgets)
        found = _non_dominated(tried)
        if len(found) >= points or high <= low:
            break
        budgets = _between(found)
    return tuple(replace(p, number=i) for i, p in enumerate(_non_dominated(tried), start=1))


def table(points: tuple[Point, ...]) -> str:
    """The frontier as text, one line a plan."""
    lines = [f"{'plan':>4}  {'finish':>10}  {'range':>23}  {'cost':>12}  {'data GB':>8}  {'deadline risk':>13}"]
    for p in points:
        span = f"{p.finish_low_s:.0f} to {p.finish_high_s:.0f} s"
        lines.append(
            f"{p.number:>4}  {p.finish_s:>8.0f} s  {span:>23}  {p.cost:>12.4f}  "
            f"{p.moved_bytes / 1e9:>8.2f}  {p.deadline_risk:>12.0%}"
        )
    return "\n".join(lines)


def rows(points: tuple[Point, ...]) -> list[dict[str, float | int | None]]:
    """The frontier as plain values for JSON, without the plans themselves."""
    names = ("number", "finish_s", "finish_low_s", "finish_high_s", "cost", "moved_bytes", "deadline_risk", "budget")
    return [{name: getattr(p, name) for name in names} for p in points]


def _point(
    snapshot: Snapshot, now: float, own: Experiment, weights: Weights, budget: float | None, limits: Limits
) -> Point:
    changed = replace(own, weights=weights, budget_left=budget)
    experiments = tuple(changed if e.key == own.key else e for e in snapshot.experiments)
    decided = plan(replace(snapshot, experiments=experiments), now, limits)
    expected = next((f for f in decided.forecasts if f.experiment == own.key), None)
    if expected is None:
        expected = Forecast(
            experiment=own.key, finish_s=0.0, finish_low_s=0.0, finish_high_s=0.0, cost=0.0, moved_bytes=0.0,
            late_s=0.0, deadline_risk=0.0, placed=0, unplaced=0,
        )  # fmt: skip
    return Point(
        number=0,
        finish_s=expected.finish_s if not expected.unplaced else float("inf"),
        finish_low_s=expected.finish_low_s,
        finish_high_s=expected.finish_high_s,
        cost=expected.cost,
        moved_bytes=expected.moved_bytes,
        deadline_risk=expected.deadline_risk,
        budget=None if budget == own.budget_left else _to_run_with(expected.cost, own.budget_left),
        # Made without it, so that the deadline does not outweigh the budget; once it runs, being late matters again.
        weights=replace(weights, deadline=own.weights.deadline),
        plan=decided,
    )


def _to_run_with(cost: float, own: float | None) -> float:
    enough = cost * (1.0 + BUDGET_MARGIN)
    return enough if own is None else min(enough, own)


def _non_dominated(points: list[Point]) -> list[Point]:
    """Fastest first; a point stays if nothing as fast is as cheap, beyond rounding."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.finish_s, p.cost)):
        if point.finish_s < float("inf") and (not kept or point.cost < kept[-1].cost * (1.0 - 1e-6) - 1e-12):
            kept.append(point)
    return kept


def _between(points: list[Point]) -> list[float]:
    """Budgets in the middle of the widest steps between neighbours, and just too small for the dearer of the two."""
    steps = sorted(((b - a, b) for a, b in pairwise(sorted(p.cost for p in points))), reverse=True)[:_STEPS]
    return [budget for width, dearer in steps for budget in (dearer - width / 2.0, dearer - width * _JUST)]
