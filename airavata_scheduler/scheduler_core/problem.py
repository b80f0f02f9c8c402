"""The snapshot as arrays: classes by pools. Everything after this file is arithmetic on numpy arrays.

A *class* is one row: tasks the decision treats alike (see `classes.py`). A *pool* is one column: the live workers of a
resource, or the workers one of its offers could start. Shapes: C classes, P pools, D dimensions, E experiments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np
import numpy.typing as npt

from .classes import TaskClass
from .packing import copies_in, sizes_of
from .plan import Cause
from .priority import effective_priority
from .snapshot import Experiment, Limits, Link, Resource, Snapshot, Vector, Weights, WorkerOffer

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

GB = 1e9
#: The dimension of `Resource.max_tasks`; unlimited resources have this much of it.
TASKS = "#tasks"
UNLIMITED = 1e9
#: Obstacles in the order they are looked for; the index is the code in `Problem.cause`, 0 means none.
CAUSES: tuple[Cause | None, ...] = (
    None,
    Cause.CUT_OFF,
    Cause.DENIED,
    Cause.PERMISSION,
    Cause.LABEL,
    Cause.AVOIDED,
    Cause.TOO_LARGE,
    Cause.TOO_FEW_WORKERS,
    Cause.UNREACHABLE_DATA,
    Cause.LIFE,
    Cause.CREDENTIAL,
    Cause.DEADLINE,
)
CODE = {cause: code for code, cause in enumerate(CAUSES) if cause is not None}
EPSILON = 1e-9
#: However often attempts fail, no more repeats are expected than this part of successes needs.
LEAST_SUCCESS = 0.1


@dataclass(frozen=True, slots=True)
class Pool:
    """One column: live workers (`offer` is None) or workers that could be started."""

    resource: int
    offer: WorkerOffer | None


@dataclass(frozen=True, slots=True)
class Running:
    """One running task: of which of the snapshot's groups, where, what it holds (D amounts), for how much longer."""

    group: int
    pool: int
    request: tuple[float, ...]
    left_s: float


@dataclass(frozen=True, slots=True)
class Problem:
    """Arrays of one planning problem; times in seconds from now, money in the user's currency."""

    snapshot: Snapshot
    limits: Limits
    classes: tuple[TaskClass, ...]
    pools: tuple[Pool, ...]
    dims: tuple[str, ...]
    count: Floats  #: (C,) tasks that need a place
    request: Floats  #: (C, D) of one task, all its nodes together
    node_request: Floats  #: (C, D) of one node of it
    experiment: Ints  #: (C,) index into snapshot.experiments
    deadline_s: Floats  #: (C,) from now, less the critical path that follows; inf without
    hard: Bools  #: (C,)
    level: Ints  #: (G,) effective priority of the snapshot's groups
    rank_s: Floats  #: (C,)
    capacity: Floats  #: (P, D)
    worker: Floats  #: (P, D) one worker
    running: tuple[Running, ...]
    running_load: Floats  #: (P, D) unit-seconds that running tasks still hold
    n_workers: Floats  #: (P,)
    most: Floats  #: (C, P) tasks at a time, each of their nodes within one worker
    wait_s: Floats  #: (P,) until the pool takes tasks
    life_s: Floats  #: (P,) after the wait; inf without end
    credential_s: Floats  #: (P,) until which a credential lasts, from now; inf without end
    run_s: Floats  #: (C, P) runtime there, failures' repeats included
    transfer_s: Floats  #: (C, P)
    hold_s: Floats  #: (C, P) how long a task holds its place: transfer and runtime
    money: Floats  #: (C, P) of one task: price by time, and egress
    moved_bytes: Floats  #: (C, P)
    cause: npt.NDArray[np.int8]  #: (C, P) index into CAUSES; 0: allowed
    amount: Floats  #: (C, P) by how much, in the obstacle's unit
    experiment_index: dict[str, int]
    due_s: Floats  #: (E,) deadline from now, inf without
    budget: Floats  #: (E,) inf without
    weights: Floats  #: (E, 4): time, money in seconds, deadline, locality

    @property
    def allowed(self) -> Bools:
        """(C, P) where a class may go at all."""
        mask: Bools = self.cause == 0
        return mask

    def running_within(self, end_s: Floats) -> Floats:
        """(P, D) unit-seconds that running tasks hold between the opening of each pool and an end (P,)."""
        return held_load(self.running, self.capacity, self.wait_s, end_s)


def compile_problem(snapshot: Snapshot, classes: tuple[TaskClass, ...], now: float, limits: Limits) -> Problem:
    """Arrays of a checked snapshot and its classes; `now` in the snapshot's epoch."""
    pools = tuple(_pools(snapshot.resources))
    dims = _dimensions(snapshot, classes)
    index = {e.key: i for i, e in enumerate(snapshot.experiments)}
    experiment = np.array([index[c.experiment] for c in classes], dtype=np.int64)
    experiments = [snapshot.experiments[i] for i in experiment]
    node_request = _matrix([c.request for c in classes], dims)
    node_request[:, [i for i, dim in enumerate(dims) if dim == TASKS]] = 1.0
    nodes = np.array([c.nodes for c in classes], dtype=np.float64)
    capacity, worker, n_workers, wait_s, life_s = _pool_arrays(snapshot.resources, pools, dims)
    run_s = _run_seconds(classes, snapshot.resources, pools)
    transfer_s, egress, moved = _transfers(snapshot, classes, pools, limits.default_bandwidth_bytes_per_s)
    hold_s = run_s + np.where(np.isfinite(transfer_s), transfer_s, 0.0)
    money = hold_s / 3600.0 * _hourly(snapshot.resources, pools, node_request, worker, dims) * nodes[:, None] + egress
    running = _running(snapshot, pools, dims)
    rank_s = np.array([c.rank_s for c in classes])
    due_s = np.array([inf if e.deadline_at_s is None else e.deadline_at_s - now for e in snapshot.experiments])
    problem = Problem(
        snapshot=snapshot,
        limits=limits,
        classes=classes,
        pools=pools,
        dims=dims,
        count=np.array([c.count for c in classes], dtype=np.float64),
        request=node_request * nodes[:, None],
        node_request=node_request,
        experiment=experiment,
        deadline_s=due_s[experiment] - rank_s / max((r.speed for r in snapshot.resources), default=1.0),
        hard=np.array([e.hard for e in experiments], dtype=np.bool_),
        level=np.array(
            [effective_priority(g, snapshot.experiments[index[g.experiment]], now, limits) for g in snapshot.groups],
            dtype=np.int64,
        ),
        rank_s=rank_s,
        capacity=capacity,
        worker=worker,
        running=running,
        running_load=held_load(running, capacity, np.zeros(len(pools)), np.full(len(pools), inf)),
        n_workers=n_workers,
        most=np.floor(_most_nodes(snapshot.resources, pools, node_request, dims, capacity) / nodes[:, None]),
        wait_s=wait_s,
        life_s=life_s,
        credential_s=_credentials(snapshot.resources, pools, now),
        run_s=run_s,
        transfer_s=transfer_s,
        hold_s=hold_s,
        money=money,
        moved_bytes=moved,
        experiment_index=index,
        cause=np.zeros(run_s.shape, dtype=np.int8),
        amount=np.zeros(run_s.shape),
        due_s=due_s,
        budget=np.array([inf if e.budget_left is None else e.budget_left for e in snapshot.experiments]),
        weights=np.array([_weights(e) for e in snapshot.experiments]).reshape(-1, 4),
    )
    _mark_obstacles(problem, experiments, nodes)
    return problem


def _dimensions(snapshot: Snapshot, classes: tuple[TaskClass, ...]) -> tuple[str, ...]:
    """Every dimension that is asked for; tasks themselves are one where a resource limits their number."""
    asked = sorted({name for c in classes for name, amount in c.request.items() if amount > 0})
    return (*asked, TASKS) if any(r.max_tasks is not None for r in snapshot.resources) else tuple(asked)


def _weights(experiment: Experiment) -> tuple[float, float, float, float]:
    w = experiment.weights
    return w.time, w.cost * w.seconds_per_money, w.deadline, w.locality


def _pools(resources: tuple[Resource, ...]) -> list[Pool]:
    pools = []
    for i, resource in enumerate(resources):
        pools.append(Pool(i, None))
        pools.extend(Pool(i, offer) for offer in resource.offers if offer.max_workers > 0)
    return pools


def _matrix(vectors: Sequence[Vector], dims: tuple[str, ...]) -> Floats:
    rows = [[vector.get(dim, 0.0) for dim in dims] for vector in vectors]
    return np.array(rows, dtype=np.float64).reshape(len(vectors), len(dims))


def _pool_arrays(
    resources: tuple[Resource, ...], pools: tuple[Pool, ...], dims: tuple[str, ...]
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    capacity, worker = [], []
    n_workers, wait_s, life_s = np.zeros(len(pools)), np.zeros(len(pools)), np.full(len(pools), inf)
    for p, pool in enumerate(pools):
        resource, offer = resources[pool.resource], pool.offer
        tasks = {TASKS: UNLIMITED if resource.max_tasks is None else float(resource.max_tasks)}
        if offer is None:
            capacity.append({**resource.capacity, **tasks})
            worker.append({**(resource.largest if resource.largest is not None else resource.capacity), **tasks})
            n_workers[p], wait_s[p] = resource.workers, resource.queue_wait_s
            life_s[p] = inf if resource.life_left_s is None else resource.life_left_s
        else:
            capacity.append({**{k: v * offer.max_workers for k, v in offer.size.items()}, **tasks})
            worker.append({**offer.size, **tasks})
            n_workers[p], wait_s[p] = offer.max_workers, offer.queue_wait.mean_s
            life_s[p] = inf if offer.walltime_s is None else offer.walltime_s
    return _matrix(capacity, dims), _matrix(worker, dims), n_workers, wait_s, life_s


def _most_nodes(
    resources: tuple[Resource, ...], pools: tuple[Pool, ...], request: Floats, dims: tuple[str, ...], capacity: Floats
) -> Floats:
    """(C, P) nodes of tasks that the workers of a pool run at a time."""
    real = [d for d, dim in enumerate(dims) if dim != TASKS]
    owner, amounts, numbers = [], [], []
    for p, pool in enumerate(pools):
        offer = pool.offer
        for size, n in sizes_of(resources[pool.resource]) if offer is None else ((offer.size, offer.max_workers),):
            owner.append(p)
            amounts.append(size)
            numbers.append(float(n))
    each = copies_in(request[:, real], _matrix(amounts, tuple(dims[d] for d in real))) * np.array(numbers)
    within = np.zeros((len(pools), len(request)))
    np.add.at(within, np.array(owner, dtype=np.int64), each.T)
    return np.minimum(within.T, copies_in(request, capacity))


def _credentials(resources: tuple[Resource, ...], pools: tuple[Pool, ...], now: float) -> Floats:
    until = [resources[pool.resource].credential_until_s for pool in pools]
    return np.array([inf if at is None else at - now for at in until])


def _running(snapshot: Snapshot, pools: tuple[Pool, ...], dims: tuple[str, ...]) -> tuple[Running, ...]:
    """Every running task; without better knowledge the tasks of a group end evenly spread over one runtime."""
    live = {snapshot.resources[pool.resource].name: p for p, pool in enumerate(pools) if pool.offer is None}
    speed = {r.name: r.speed for r in snapshot.resources}
    found: list[Running] = []
    for i, group in enumerate(snapshot.groups):
        for name, n in group.n_running.items():
            if name not in live or n <= 0:
                continue
            request = tuple(1.0 if d == TASKS else group.request.get(d, 0.0) * group.nodes for d in dims)
            learnt = group.runtime_on.get(name)
            whole = learnt.mean_s if learnt is not None else group.runtime.mean_s / speed[name]
            known = group.running_left_s.get(name, ())
            guessed = [whole * (k + 1) / n for k in range(n - len(known))]
            found.extend(Running(i, live[name], request, left) for left in [*known[:n], *guessed])
    return tuple(found)


def held_load(running: Sequence[Running], capacity: Floats, start_s: Floats, end_s: Floats) -> Floats:
    """(P, D) unit-seconds that running tasks hold from a start to an end (P,).

    More than there is cannot be held: what was claimed ahead counts as running before it does.
    """
    load = np.zeros(capacity.shape)
    for p in {task.pool for task in running}:
        mine = [task for task in running if task.pool == p]
        held = np.sum([task.request for task in mine], axis=0)
        at = 0.0
        for task in sorted(mine, key=lambda t: t.left_s):
            seconds = min(task.left_s, end_s[p]) - max(at, start_s[p])
            load[p] += np.minimum(held, capacity[p]) * max(0.0, seconds)
            held, at = held - np.array(task.request), task.left_s
    return load


def _run_seconds(classes: tuple[TaskClass, ...], resources: tuple[Resource, ...], pools: tuple[Pool, ...]) -> Floats:
    """Runtime by class and pool: the learnt one, or the estimate over the speed; repeats of failures included."""
    runtime = np.array([c.runtime.mean_s for c in classes])
    speed = np.array([resources[p.resource].speed for p in pools])
    run_s: Floats = runtime[:, None] / speed[None, :]
    columns: dict[str, list[int]] = {}
    for p, pool in enumerate(pools):
        columns.setdefault(resources[pool.resource].name, []).append(p)
    fails = np.repeat(np.array([c.failure_rate for c in classes])[:, None], len(pools), axis=1)
    for c, task_class in enumerate(classes):
        for name, learnt in task_class.runtime_on.items():
            run_s[c, columns.get(name, [])] = learnt.mean_s
        for name, rate in task_class.failure_on.items():
            fails[c, columns.get(name, [])] = rate
    keeps = (1.0 - fails) * (1.0 - np.array([resources[p.resource].failure_rate for p in pools]))[None, :]
    return run_s / np.maximum(keeps, LEAST_SUCCESS)


def _transfers(
    snapshot: Snapshot, classes: tuple[TaskClass, ...], pools: tuple[Pool, ...], default_bandwidth: float
) -> tuple[Floats, Floats, Floats]:
    """Seconds, egress money and bytes moved by class and pool, from the replica that its experiment likes best."""
    shape = (len(classes), len(pools))
    seconds, egress, moved = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    links = {(link.source, link.target): link for link in snapshot.links}
    targets = [snapshot.resources[p.resource].location for p in pools]
    weights_of = {experiment.key: experiment.weights for experiment in snapshot.experiments}
    rows: dict[tuple[tuple[tuple[str, float], ...], Weights], tuple[Floats, Floats, Floats]] = {}
    for c, task_class in enumerate(classes):
        replicas = tuple(sorted((k, v) for k, v in task_class.inputs.items() if v > 0))
        if not replicas:
            continue
        weights = weights_of[task_class.experiment]
        key = (replicas, weights)
        if key not in rows:
            routes = {t: _best_route(replicas, t, links, default_bandwidth, weights) for t in set(targets)}
            table = np.array([routes[t] for t in targets]).reshape(-1, 3)
            rows[key] = (table[:, 0], table[:, 1], table[:, 2])
        seconds[c], egress[c], moved[c] = rows[key]
    return seconds, egress, moved


def _best_route(
    replicas: tuple[tuple[str, float], ...],
    target: str,
    links: dict[tuple[str, str], Link],
    default_bandwidth: float,
    weights: Weights,
) -> tuple[float, float, float]:
    def price(route: tuple[float, float, float]) -> tuple[float, float]:
        seconds, egress, _ = route
        return (weights.time + weights.locality) * seconds + weights.cost * weights.seconds_per_money * egress, seconds

    best = (inf, 0.0, 0.0)
    for source, size in replicas:
        link = links.get((source, target))
        if source == target:
            route = (0.0, 0.0, 0.0)
        elif link is None:
            route = (size / default_bandwidth, 0.0, size) if default_bandwidth > 0 else (inf, 0.0, size)
        else:
            pace = link.bandwidth_bytes_per_s
            route = (link.latency_s + size / pace if pace > 0 else inf, size / GB * link.price_per_gb, size)
        if isfinite(route[0]) and (best[0] == inf or price(route) < price(best)):
            best = route
    return best


def _hourly(
    resources: tuple[Resource, ...], pools: tuple[Pool, ...], request: Floats, worker: Floats, dims: tuple[str, ...]
) -> Floats:
    """(C, P) money for one hour of one node of a task: its dominant share of a worker, and prices by unit.

    A limit of tasks at a time is no part of a worker that could be paid for.
    """
    real = [d for d, dim in enumerate(dims) if dim != TASKS]
    request, worker, dims = request[:, real], worker[:, real], tuple(dims[d] for d in real)
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(worker[None, :, :] > 0, request[:, None, :] / worker[None, :, :], 0.0)
    dominant = np.minimum(part.max(axis=2, initial=0.0), 1.0)
    price = np.array([resources[p.resource].price_per_hour for p in pools])
    units = _matrix([resources[p.resource].unit_prices for p in pools], dims)
    hourly: Floats = dominant * price[None, :] + request @ units.T
    return hourly


def _mark_obstacles(problem: Problem, experiments: list[Experiment], nodes: Floats) -> None:
    """Fills `cause` and `amount` in place: the first obstacle wins, so that lifting it shows the next."""
    resources = [problem.snapshot.resources[p.resource] for p in problem.pools]

    def mark(cause: Cause, where: npt.NDArray[np.bool_], amount: Floats | float = 0.0) -> None:
        fresh = where & (problem.cause == 0)
        problem.cause[fresh] = CODE[cause]
        problem.amount[fresh] = np.broadcast_to(amount, fresh.shape)[fresh]

    shape = problem.cause.shape
    mark(Cause.CUT_OFF, np.broadcast_to(np.array([bool(r.cut_off) for r in resources], dtype=np.bool_), shape))
    _mark_lists(problem, experiments, resources, mark)
    for d in range(len(problem.dims)):
        over = problem.node_request[:, d : d + 1] - problem.worker[None, :, d]
        mark(Cause.TOO_LARGE, over > EPSILON * np.maximum(1.0, problem.node_request[:, d : d + 1]), over)
    short = nodes[:, None] - problem.n_workers[None, :]
    mark(Cause.TOO_FEW_WORKERS, (short > 0) & (nodes[:, None] > 1), short)
    _mark_unpacked(problem, nodes, mark)
    if not problem.dims:
        mark(Cause.TOO_FEW_WORKERS, short > 0, short)
    mark(Cause.UNREACHABLE_DATA, ~np.isfinite(problem.transfer_s))
    over = problem.hold_s - problem.life_s[None, :]
    mark(Cause.LIFE, over > 0, np.where(np.isfinite(over), over, 0.0))
    ends = problem.wait_s[None, :] + problem.hold_s
    over = ends - problem.credential_s[None, :]
    mark(Cause.CREDENTIAL, over > 0, np.where(np.isfinite(over), over, 0.0))
    over = ends - problem.deadline_s[:, None]
    mark(Cause.DEADLINE, problem.hard[:, None] & (over > 0), np.where(np.isfinite(over), over, 0.0))


_Mark = Callable[..., None]


def _mark_unpacked(problem: Problem, nodes: Floats, mark: _Mark) -> None:
    """What each worker has enough of some things for, and none of all; gangs that too few of the workers are for."""
    none = problem.most < 1
    mark(Cause.TOO_FEW_WORKERS, none & (nodes[:, None] > 1), 1.0)
    for p, pool in enumerate(problem.pools):
        if pool.offer is None and none[:, p].any():
            sizes = _matrix([size for size, _ in sizes_of(problem.snapshot.resources[pool.resource])], problem.dims)
            # The worker that comes nearest says how much is lacking.
            lacking = (problem.node_request[:, None, :] - sizes[None, :, :]).max(axis=2, initial=0.0).min(axis=1)
            only = none & (np.arange(len(problem.pools)) == p)[None, :]
            mark(Cause.TOO_LARGE, only, lacking[:, None])


def _mark_lists(problem: Problem, experiments: list[Experiment], resources: list[Resource], mark: _Mark) -> None:
    """Allow and deny lists, permissions, labels and avoided resources: by distinct rule, not by cell."""
    rules: dict[tuple[object, ...], tuple[Bools, Bools, Bools, Bools]] = {}
    denied, barred, bare, avoided = (np.zeros(problem.cause.shape, dtype=np.bool_) for _ in range(4))
    for c, (task_class, e) in enumerate(zip(problem.classes, experiments, strict=True)):
        rule = (e.allow, e.deny, e.project, task_class.labels, task_class.avoid)
        if rule not in rules:
            rules[rule] = (
                np.array(
                    [(bool(e.allow) and r.name not in e.allow) or r.name in e.deny for r in resources], dtype=bool
                ),
                np.array([r.usable_by is not None and e.project not in r.usable_by for r in resources], dtype=bool),
                np.array([not task_class.labels <= r.labels for r in resources], dtype=bool),
                np.array([r.name in task_class.avoid for r in resources], dtype=bool),
            )
        denied[c], barred[c], bare[c], avoided[c] = rules[rule]
    mark(Cause.DENIED, denied)
    mark(Cause.PERMISSION, barred)
    mark(Cause.LABEL, bare)
    mark(Cause.AVOIDED, avoided)
