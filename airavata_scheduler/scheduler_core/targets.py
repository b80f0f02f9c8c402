"""How many workers each resource should have, from the work the plan sends to workers that do not run yet.

A started worker takes tasks after the queue wait and is useful until the plan's horizon. The fewest workers that can
finish the work assigned to their offer by then are asked for, and one less when the last would idle so long that its
idle price exceeds what its work is worth in time. Their walltime covers the work with a margin, within the offer's.
"""

from __future__ import annotations

from math import ceil

import numpy as np

from .plan import WorkerTarget
from .problem import Bools, Floats, Problem

WALLTIME_MARGIN = 1.25
WALLTIME_STEP_S = 60.0


def worker_targets(problem: Problem, x: Floats) -> tuple[WorkerTarget, ...]:
    """One target per offer, and one per resource without offers; in the order of the snapshot."""
    busy = _busy_workers_seconds(problem, x)
    live_finish = 0.0
    for p, pool in enumerate(problem.pools):
        if pool.offer is None and problem.n_workers[p] > 0:
            live_finish = max(live_finish, float(problem.wait_s[p] + busy[p] / problem.n_workers[p]))
    keep = _keep(problem)
    longest = np.where(x > 0, problem.hold_s, 0.0).max(axis=0, initial=0.0)
    targets = []
    for p, pool in enumerate(problem.pools):
        resource = problem.snapshot.resources[pool.resource]
        if pool.offer is None:
            if not resource.offers:
                targets.append(_target(problem, p, keep, 0, None, "no more workers can be started here"))
            continue
        if busy[p] <= 0:
            targets.append(_target(problem, p, keep, 0, None, "no work is planned for more workers"))
            continue
        useful = max(live_finish - problem.wait_s[p], busy[p] / problem.n_workers[p], float(longest[p]))
        start = int(min(problem.n_workers[p], max(1, ceil(busy[p] / useful - 1e-6), _gang(problem, x, p))))
        start = _without_idle_last(problem, p, start, float(busy[p]), useful)
        lifetime = max(busy[p] / start, float(longest[p])) * WALLTIME_MARGIN
        walltime = ceil(lifetime / WALLTIME_STEP_S) * WALLTIME_STEP_S
        if pool.offer.walltime_s is not None:
            walltime = min(walltime, pool.offer.walltime_s)
        text = f"{busy[p]:.0f} worker seconds of work, after a wait of about {problem.wait_s[p]:.0f} s"
        targets.append(_target(problem, p, keep, start, walltime, text))
    return tuple(targets)


def _busy_workers_seconds(problem: Problem, x: Floats) -> Floats:
    """(P,) seconds for which one worker of the pool would be busy, in its scarcest dimension."""
    load = (x * problem.hold_s).T @ problem.request
    per_worker = problem.capacity / np.maximum(problem.n_workers[:, None], 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        busy: Floats = np.where(load > 0, load / per_worker, 0.0).max(axis=1, initial=0.0)
    return busy


def _gang(problem: Problem, x: Floats, p: int) -> int:
    """The nodes of the largest gang planned for a pool: fewer workers could never run it."""
    return max((task_class.nodes for c, task_class in enumerate(problem.classes) if x[c, p] > 0), default=1)


def _without_idle_last(problem: Problem, p: int, start: int, busy: float, useful: float) -> int:
    offer = problem.pools[p].offer
    if offer is None or start <= max(1, _gang_floor(problem, p)) or offer.idle_price_per_hour <= 0:
        return start
    idle_s = start * useful - busy
    delay_s = busy / (start - 1) - useful
    exchange = float(np.median(problem.weights[:, 1])) if len(problem.weights) else 0.0
    urgency = float(problem.weights[:, 0].sum())
    saved = idle_s / 3600.0 * offer.idle_price_per_hour * exchange
    return start - 1 if saved > delay_s * urgency else start


def _gang_floor(problem: Problem, p: int) -> int:
    nodes = [c.nodes for i, c in enumerate(problem.classes) if problem.cause[i, p] == 0]
    return max(nodes, default=1)


def _target(problem: Problem, p: int, keep: list[int], start: int, walltime: float | None, reason: str) -> WorkerTarget:
    pool = problem.pools[p]
    return WorkerTarget(
        resource=problem.snapshot.resources[pool.resource].name,
        offer="" if pool.offer is None else pool.offer.name,
        start=start,
        walltime_s=walltime,
        keep=keep[pool.resource],
        reason=reason,
    )


def _keep(problem: Problem) -> list[int]:
    """By resource: live workers stay while anything runs or may run there; otherwise they may be drained."""
    running = {name for g in problem.snapshot.groups for name, n in g.n_running.items() if n > 0}
    useful: Bools = np.asarray(problem.allowed.any(axis=0))
    open_resources = {pool.resource for p, pool in enumerate(problem.pools) if useful[p]}
    return [
        r.workers if r.name in running or i in open_resources else 0 for i, r in enumerate(problem.snapshot.resources)
    ]
