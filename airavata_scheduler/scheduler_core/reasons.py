"""Obstacles in words: why a class may not go to a pool, and why tasks have no place at all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .objective import fixed_blocks
from .plan import Cause, Reason, Unplaced
from .problem import CAUSES, EPSILON, TASKS, Floats, Ints, Problem
from .snapshot import Resource, TaskGroup


def amount_of(dimension: str, amount: float) -> str:
    """An amount of a dimension in words: `8 GB of memory`, `2 cpu`."""
    if amount == 0:
        return "none"
    if dimension == TASKS:
        return f"{amount:.6g} tasks at a time"
    if not dimension.endswith("_bytes"):
        return f"{amount:.6g} {dimension}"
    what = dimension.removesuffix("_bytes")
    return f"{amount / 1e9:.4g} GB of {what}" if amount >= 1e8 else f"{amount / 1e6:.4g} MB of {what}"


def named(dimension: str) -> str:
    """A dimension in words."""
    return "its limit of tasks at a time" if dimension == TASKS else dimension


def spending(problem: Problem, x: Floats) -> Floats:
    """(E,) money an assignment (C, P) costs."""
    spent: Floats = np.bincount(problem.experiment, (problem.money * x).sum(axis=1), len(problem.budget)).astype(float)
    return spent


def unplaced(problem: Problem, x: Floats) -> tuple[Unplaced, ...]:
    """Every group with tasks the assignment (C, P) leaves out, with at least one reason each."""
    found = []
    missing = np.round(problem.count - x.sum(axis=1)).astype(int)
    spent = spending(problem, x)
    for c in np.flatnonzero(missing > 0):
        reasons = _class_reasons(problem, int(c), float(missing[c]), x, spent)
        left = int(missing[c])
        for i in reversed(problem.classes[c].members):
            group = problem.snapshot.groups[i]
            count = min(left, group.n_ready + group.n_blocked)
            left -= count
            if count:
                found.append(Unplaced(group=group.key, count=count, reasons=reasons))
    return tuple(found)


def _class_reasons(problem: Problem, c: int, missing: float, x: Floats, spent: Floats) -> tuple[Reason, ...]:
    if not problem.pools:
        return (Reason(cause=Cause.NO_RESOURCE, text="no resource is registered: add one"),)
    open_pools = np.flatnonzero(problem.cause[c] == 0)
    if len(open_pools) == 0:
        return obstacles(problem, c)
    waits = _waits_for(problem, c, x)
    if waits:
        text = f"waits for tasks of {', '.join(waits)}, which have no place themselves"
        return (Reason(cause=Cause.BLOCKED, text=text, amount=missing),)
    e = int(problem.experiment[c])
    cheapest = float(problem.money[c, open_pools].min())
    left = float(problem.budget[e] - spent[e])
    reasons = []
    if cheapest > left + EPSILON:
        lack = missing * cheapest - max(left, 0.0)
        text = f"budget: {max(left, 0.0):.4g} is left, one task costs {cheapest:.4g}; {lack:.4g} more would run all"
        reasons.append(Reason(cause=Cause.BUDGET, text=text, amount=lack))
    reasons.extend(_full_reasons(problem, c, open_pools, x))
    if problem.hard[c] and np.isfinite(problem.deadline_s[c]):
        due = float(problem.deadline_s[c])
        text = f"no place would be free in time to end by the hard deadline in {due:.0f} s"
        reasons.append(Reason(cause=Cause.DEADLINE, text=text, amount=float(problem.hold_s[c, open_pools].min())))
    if not reasons and not np.isfinite(problem.budget[e]):
        text = "there is no room until the end of the plan: more capacity or a longer window would help"
        reasons.append(Reason(cause=Cause.FULL, text=text, amount=missing))
    if not reasons:
        text = "the affordable places are full, and the places with room are dearer than the budget allows"
        reasons.append(Reason(cause=Cause.BUDGET, text=text, amount=float(problem.money[c, open_pools].max()) - left))
    return tuple(reasons)


def _waits_for(problem: Problem, c: int, x: Floats) -> list[str]:
    """Keys of groups that members of a class wait for and that are not fully placed."""
    groups = problem.snapshot.groups
    needed = {key for i in problem.classes[c].members if groups[i].n_blocked for key in groups[i].after}
    short = np.flatnonzero(np.round(problem.count - x.sum(axis=1)) > 0)
    return sorted({groups[i].key for r in short for i in problem.classes[r].members} & needed)


def _full_reasons(problem: Problem, c: int, pools: Ints, x: Floats) -> list[Reason]:
    """For each open pool that cannot take one more task of the class: the row that is binding there."""
    reasons = []
    held = x * problem.hold_s
    for block in fixed_blocks(problem):
        if not block.member[c]:
            continue
        load = held[block.member].T @ problem.request[block.member]
        room = problem.capacity * block.seconds[:, None] - load
        need = problem.request[c][None, :] * problem.hold_s[c][:, None]
        everyone = bool(block.member.all())
        for p in pools:
            short = np.flatnonzero(need[p] > room[p] + EPSILON * np.maximum(need[p], 1.0))
            if len(short):
                d = int(short[0])
                name = _resource(problem, int(p)).name
                until = float(block.seconds[p] + problem.wait_s[p])
                what = "is full until" if everyone else "has no room for this before its deadline in"
                text = f"{name} {what} about {until:.0f} s ({named(problem.dims[d])})"
                cause = Cause.FULL if everyone else Cause.DEADLINE
                amount = float(need[p, d] - room[p, d])
                reasons.append(Reason(cause=cause, text=text, resource=name, amount=amount, dimension=problem.dims[d]))
    return reasons


def obstacles(problem: Problem, c: int) -> tuple[Reason, ...]:
    """One obstacle for each resource a class may not use, in the order of the snapshot."""
    found: dict[str, Reason] = {}
    for p in range(len(problem.pools)):
        reason = obstacle(problem, c, p)
        name = _resource(problem, p).name
        # Live workers may be absent while startable ones are the real question: the pool that got furthest speaks.
        if reason is not None and (name not in found or _rank(reason) > _rank(found[name])):
            found[name] = reason
    return tuple(found.values())


def _rank(reason: Reason) -> int:
    return CAUSES.index(reason.cause)


def obstacle(problem: Problem, c: int, p: int) -> Reason | None:
    """Why a class may not use a pool, None if it may."""
    cause = CAUSES[int(problem.cause[c, p])]
    if cause is None:
        return None
    resource = _resource(problem, p)
    group = problem.snapshot.groups[problem.classes[c].members[0]]
    amount = float(problem.amount[c, p])
    dimension = _dimension(problem, c, p) if cause is Cause.TOO_LARGE else ""
    text = f"{resource.name}: {_text(cause, resource, group, amount, dimension, problem, c, p)}"
    return Reason(cause=cause, text=text, resource=resource.name, amount=amount, dimension=dimension)


def _dimension(problem: Problem, c: int, p: int) -> str:
    """The first one, as marked, of which no worker has enough; empty where it is only that none has enough of all."""
    request = problem.node_request[c]
    over = request - problem.worker[p] > EPSILON * np.maximum(1.0, request)
    return problem.dims[int(over.argmax())] if over.any() else ""


def _text(
    cause: Cause, resource: Resource, group: TaskGroup, amount: float, dimension: str, problem: Problem, c: int, p: int
) -> str:
    lacking = ", ".join(sorted(group.labels - resource.labels))
    d = problem.dims.index(dimension) if dimension else 0
    words: dict[Cause, Callable[[], str]] = {
        Cause.CUT_OFF: lambda: f"not in use: {resource.cut_off}",
        Cause.DENIED: lambda: "not among the resources the experiment allows",
        Cause.PERMISSION: lambda: "the project has no permission or credential there",
        Cause.LABEL: lambda: f"lacks the label {lacking}",
        Cause.AVOIDED: lambda: "these tasks failed there before",
        Cause.TOO_LARGE: lambda: (
            f"a task needs {amount_of(dimension, problem.node_request[c, d])}, "
            f"a worker has {amount_of(dimension, problem.worker[p, d])}"
            if dimension
            else "no single worker has all that a task needs"
        ),
        Cause.TOO_FEW_WORKERS: lambda: f"{group.nodes} workers are needed at once, {group.nodes - amount:.0f} possible",
        Cause.UNREACHABLE_DATA: lambda: "no replica of the inputs can be reached from there",
        Cause.LIFE: lambda: f"a task would outlive its worker by {amount:.0f} s",
        Cause.CREDENTIAL: lambda: f"the credential ends {amount:.0f} s before a task would",
        Cause.DEADLINE: lambda: f"misses the deadline by {amount:.0f} s",
    }
    return words[cause]()


def _resource(problem: Problem, p: int) -> Resource:
    return problem.snapshot.resources[problem.pools[p].resource]
