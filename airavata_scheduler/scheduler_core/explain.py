"""Why a group is where it is: a verdict for every resource, from the plan's own rows and prices.

The verdicts are those of the model: an obstacle is a cell the model does not have, "dearer" is the cell's reduced cost
(what the objective would lose by moving one task there), "full" is a capacity row with a price.
"""

from __future__ import annotations

from dataclasses import dataclass

from .check import check
from .classes import classify
from .errors import SnapshotError
from .plan import Cause, Plan, Reason, Share
from .problem import Problem, compile_problem
from .reasons import named, obstacle
from .snapshot import Limits, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a plan means for one group.

    `verdicts` holds one reason per resource, in the order of the snapshot. `position` is the number of places promised
    to others before it on the resource where it is expected first (`expected_resource`), None if it has no place;
    `expected_start_s` is from now. `unplaced` tasks have `reasons`.
    """

    group: str
    verdicts: tuple[Reason, ...]
    position: int | None
    expected_resource: str
    expected_start_s: float | None
    unplaced: int
    reasons: tuple[Reason, ...]

    def lines(self) -> list[str]:
        """The explanation as sentences, the most useful first."""
        found = []
        if self.expected_start_s is not None:
            found.append(
                f"expected to start on {self.expected_resource} in about {self.expected_start_s:.0f} s, "
                f"{counted(self.position or 0, 'place')} before it"
            )
        if self.unplaced:
            found.append(f"no place for {counted(self.unplaced, 'task')}:")
            found.extend(f"  {reason.text}" for reason in self.reasons)
        found.extend(f"  {verdict.text}" for verdict in self.verdicts)
        return found


def explain(snapshot: Snapshot, plan: Plan, now: float, group: str, limits: Limits | None = None) -> Explanation:
    """Explains one group under a plan made from the same snapshot. Raises SnapshotError for an unknown group."""
    limits = Limits() if limits is None else limits
    check(snapshot, now, limits)
    index = next((i for i, g in enumerate(snapshot.groups) if g.key == group), None)
    if index is None:
        raise SnapshotError("group", group, "name a group of the snapshot")
    problem = compile_problem(snapshot, classify(snapshot, limits.max_classes), now, limits)
    row = next((c for c, tc in enumerate(problem.classes) if index in tc.members), None)
    shares = [s for s in plan.of_group(group) if s.total > 0 or s.places > 0]
    # What only runs on goes nowhere next.
    first = min((s for s in shares if s.total > 0), key=lambda s: (s.start_in_s, s.order), default=None)
    left = next((u for u in plan.unplaced if u.group == group), None)
    return Explanation(
        group=group,
        verdicts=() if row is None else _verdicts(problem, plan, row, group, shares),
        position=None if first is None else _position(plan, first),
        expected_resource="" if first is None else first.resource,
        expected_start_s=None if first is None else first.start_in_s,
        unplaced=0 if left is None else left.count,
        reasons=() if left is None else left.reasons,
    )


def counted(n: int, what: str) -> str:
    """A number with its noun."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _position(plan: Plan, share: Share) -> int:
    return sum(other.places for other in plan.of_resource(share.resource) if other.order < share.order)


def _verdicts(problem: Problem, plan: Plan, row: int, group: str, shares: list[Share]) -> tuple[Reason, ...]:
    chosen = {share.resource: share for share in shares}
    verdicts = []
    for r, resource in enumerate(problem.snapshot.resources):
        columns = [p for p, pool in enumerate(problem.pools) if pool.resource == r]
        open_columns = [p for p in columns if problem.cause[row, p] == 0]
        if resource.name in chosen and (chosen[resource.name].total > 0 or open_columns):
            verdicts.append(_chosen(chosen[resource.name]))
        elif open_columns:
            verdicts.append(_feasible(problem, plan, row, group, resource.name, open_columns[0]))
        else:
            found = [reason for p in columns if (reason := obstacle(problem, row, p)) is not None]
            verdicts.append(found[-1])
    return tuple(verdicts)


def _chosen(share: Share) -> Reason:
    text = f"{share.resource}: chosen for {counted(share.total, 'task')}, {counted(share.places, 'place')} now"
    return Reason(cause=Cause.CHOSEN, text=text, resource=share.resource, amount=float(share.total))


def _is_chosen(problem: Problem, plan: Plan, group: str, p: int) -> bool:
    name = problem.snapshot.resources[problem.pools[p].resource].name
    return any(share.resource == name and share.total > 0 for share in plan.of_group(group))


def _feasible(problem: Problem, plan: Plan, row: int, group: str, name: str, p: int) -> Reason:
    """A resource that could run the group and is not used: over budget, dearer, or full."""
    experiment = problem.snapshot.experiments[int(problem.experiment[row])]
    budget = experiment.budget_left
    money = float(problem.money[row, p])
    if budget is not None and money > budget:
        text = f"{name}: over budget, one task costs {money:.4g} and {max(budget, 0.0):.4g} is left"
        return Reason(cause=Cause.BUDGET, text=text, resource=name, amount=money - max(budget, 0.0))
    worse = plan.task_prices.get((group, name))
    late_s = float(problem.wait_s[p] + problem.hold_s[row, p] - problem.deadline_s[row])
    if late_s > 0:
        text = f"{name}: feasible, but a task would end {late_s:.0f} s after the deadline"
        return Reason(cause=Cause.DEARER, text=text, resource=name, amount=late_s)
    chosen = [problem.money[row, q] for q in range(len(problem.pools)) if _is_chosen(problem, plan, group, q)]
    if plan.budget_prices.get(experiment.key, 0.0) > 0 and chosen and money > min(chosen):
        text = f"{name}: over budget, a task costs {money:.4g} there and {min(chosen):.4g} where it is planned"
        return Reason(cause=Cause.BUDGET, text=text, resource=name, amount=money - min(chosen))
    prices = plan.prices.get(name, {})
    if prices and any(share.total > 0 or share.places > 0 for share in plan.of_resource(name)):
        dimension = max(prices, key=lambda d: prices[d])
        there = {s.group for s in plan.of_resource(name) if s.total > 0 or s.places > 0}
        users = {g.experiment for g in problem.snapshot.groups if g.key in there}
        finish = max((f.finish_s for f in plan.forecasts if f.experiment in users), default=0.0)
        text = f"{name}: full until about {finish:.0f} s, {named(dimension)} is given to tasks that gain more by it"
        return Reason(cause=Cause.FULL, text=text, resource=name, amount=prices[dimension], dimension=dimension)
    if worse is not None:
        text = f"{name}: feasible, but dearer by {worse:.4g} s of the objective per task"
        return Reason(cause=Cause.DEARER, text=text, resource=name, amount=worse)
    return Reason(cause=Cause.DEARER, text=f"{name}: feasible, but others are cheaper or sooner", resource=name)
