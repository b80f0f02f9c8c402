"""From "how many of a class go where in the end" to "how many places a group may hold there now".

Places of a resource are given out by weighted dominant-resource fairness between projects, and within a project in the
plan's order: effective priority (the given one, and one level more for every `ageing_s` a group waits without a single
place), then the order the plan was made with. Only live workers have places. What runs already counts towards the
places of its group, and has no claim beyond them: who comes later gets a fair part as tasks end. Where too little would
be left for a large task, the project that holds least now has the first turn, so that large and small ones alternate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, inf

import numpy as np

from .packing import copies, most_on
from .plan import Share
from .problem import EPSILON, TASKS, Bools, Floats, Problem
from .snapshot import Experiment, Resource, Snapshot, TaskGroup

#: One grant is at most this part of what a claimant could still get, so that fairness is even in small steps.
_STEP = 8
#: Requests above this part of a worker are not overtaken by smaller ones.
LARGE_PART = 0.25
#: Classes beside the planned ones that may use a resource which would otherwise idle.
SPARE_CLASSES = 32


@dataclass(slots=True)
class Claim:
    """One group's claim on one resource while places are given out; `places` counts running tasks, which are `held`."""

    group: TaskGroup
    experiment: Experiment
    resource: Resource
    level: int
    position: int
    held: int
    places: int = 0
    planned: bool = False  #: the plan means to start some there, or would as soon as elsewhere
    total: int = 0
    wanted: int = 0
    burst: int = 0
    start_s: float = 0.0
    quota: int | None = None
    reserve: bool = False
    hold: int = 0


@dataclass(slots=True)
class Usage:
    """Dominant shares of projects over all resources: what they run, and what they were given so far."""

    total: dict[str, float]
    running: dict[str, float]
    weight: Mapping[str, float]
    given: dict[str, float] = field(default_factory=dict)

    def part(self, request: Mapping[str, float], nodes: int) -> float:
        """The dominant share of one task in everything there is."""
        parts = [v * nodes / self.total[k] for k, v in request.items() if self.total.get(k, 0.0) > 0]
        return max(parts, default=0.0)

    def give(self, experiment: Experiment, share: float) -> None:
        """Counts a share for the project of an experiment."""
        self.given[experiment.project] = self.given.get(experiment.project, 0.0) + share

    def turn(self, claim: Claim) -> tuple[float, float, str]:
        """Who is served first: the project that was given least by its weight; of equals the one that runs least."""
        project = claim.experiment.project
        weight = self.weight.get(project, 1.0)
        return self.given.get(project, 0.0) / weight, self.running.get(project, 0.0) / weight, project


def measure_usage(snapshot: Snapshot) -> Usage:
    """What projects hold now, as dominant shares of all live capacity, and nothing given yet."""
    total: dict[str, float] = {}
    for resource in snapshot.resources:
        for name, amount in resource.capacity.items():
            total[name] = total.get(name, 0.0) + amount
    usage = Usage(total, {}, {p.key: p.weight for p in snapshot.projects})
    experiments = {e.key: e for e in snapshot.experiments}
    for group in snapshot.groups:
        running = sum(group.n_running.values())
        if running:
            project = experiments[group.experiment].project
            share = running * usage.part(group.request, group.nodes)
            usage.running[project] = usage.running.get(project, 0.0) + share
    return usage


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be shared out.

    `x` (C, P) whole tasks; `starts` (C, P) seconds until the first of them starts; `near` (C, P) how much worse than
    the best a cell is; `position` (G,) the order of the snapshot's groups in the plan; `exact` plans were rehearsed
    task by task, so that nobody may start more than was planned; `strict` ones keep large tasks from being overtaken.
    """

    x: Floats
    starts: Floats
    near: Floats
    position: list[int]
    exact: bool
    strict: bool


def share_out(problem: Problem, decision: Decision) -> tuple[Share, ...]:
    """Shares for a decision, by resource in the order of the snapshot, then by claiming order."""
    claims = _claims(problem, decision)
    usage = measure_usage(problem.snapshot)
    for resource, room in zip(problem.snapshot.resources, _rooms(problem), strict=True):
        mine = claims.get(resource.name, [])
        _give_places(mine, resource, usage)
        in_order = decision.exact and len({claim.experiment.project for claim in mine}) == 1
        for claim in mine:
            claim.hold = claim.held + claim.total if in_order else claim.places
            if not decision.exact and claim.places > claim.held:
                claim.start_s = min(claim.start_s, _next_start(claim, room))
    shares: list[Share] = []
    for resource in problem.snapshot.resources:
        ordered = sorted(claims.get(resource.name, []), key=_claim_order)
        shares.extend(_share(claim, order) for order, claim in enumerate(ordered))
    return tuple(shares)


@dataclass(slots=True)
class _Room:
    """What running tasks leave of a resource, and when the next of them ends."""

    free: dict[str, float]
    next_end_s: float = inf


def _rooms(problem: Problem) -> list[_Room]:
    """By resource."""
    rooms = [_Room(dict(resource.capacity)) for resource in problem.snapshot.resources]
    for task in problem.running:
        room = rooms[problem.pools[task.pool].resource]
        room.next_end_s = min(room.next_end_s, task.left_s)
        for name, amount in zip(problem.dims, task.request, strict=True):
            room.free[name] = room.free.get(name, 0.0) - amount
    return rooms


def _next_start(claim: Claim, room: _Room) -> float:
    """Seconds until a group that has a place can start a task there: at once, or when the next task ends."""
    fits = copies(claim.group.request, room.free) >= claim.group.nodes or room.next_end_s == inf
    return max(claim.resource.queue_wait_s, 0.0 if fits else room.next_end_s)


def _claim_order(claim: Claim) -> tuple[float, int, str]:
    return -claim.level, claim.position, claim.group.key


def _share(claim: Claim, order: int) -> Share:
    return Share(
        group=claim.group.key,
        resource=claim.resource.name,
        places=claim.places,
        burst=max(claim.burst, claim.places),
        order=order,
        total=claim.total,
        weight=float(max(claim.places, 1)),
        quota=claim.quota,
        reserve=claim.reserve,
        hold=claim.hold,
        start_in_s=claim.start_s,
    )


def _claims(problem: Problem, decision: Decision) -> dict[str, list[Claim]]:
    """Claims by resource, from the cells of the assignment, the spare cells, and from what runs."""
    merged: dict[tuple[int, int], Claim] = {}
    left: dict[int, int] = {i: g.n_ready + g.n_blocked for i, g in enumerate(problem.snapshot.groups)}
    x, starts = decision.x, decision.starts
    cells = x > 0 if decision.exact else (x > 0) | _spare_cells(problem, x, decision.near)
    for c, p in np.argwhere(cells):
        planned = int(x[c, p])
        for i in problem.classes[c].members:
            take = min(planned, left[i])
            left[i], planned = left[i] - take, planned - take
            claim = _claim_for(merged, problem, decision, i, problem.pools[p].resource)
            claim.start_s = min(claim.start_s, float(starts[c, p])) if claim.total else float(starts[c, p])
            claim.total += take
            claim.planned = True
    for i, group in enumerate(problem.snapshot.groups):
        if group.n_running:
            for r, resource in enumerate(problem.snapshot.resources):
                if group.n_running.get(resource.name, 0):
                    _claim_for(merged, problem, decision, i, r)
    by_resource: dict[str, list[Claim]] = {}
    # Requests are few however many groups there are.
    most: dict[tuple[object, ...], int] = {}
    for claim in merged.values():
        asked = (claim.resource.name, claim.group.nodes, *claim.group.request.items())
        if asked not in most:
            most[asked] = most_on(claim.group.request, claim.group.nodes, claim.resource)
        _limit(claim, most[asked], decision)
        by_resource.setdefault(claim.resource.name, []).append(claim)
    return by_resource


def _spare_cells(problem: Problem, x: Floats, near: Floats) -> Bools:
    """(C, P) cells of live pools that cost no more than the planned ones: who may use what would be left idle."""
    spare = np.zeros(x.shape, dtype=np.bool_)
    live = np.array([pool.offer is None for pool in problem.pools], dtype=np.bool_)
    open_cells = problem.allowed & live[None, :] & (near <= EPSILON) & (x <= 0)
    for p in np.flatnonzero(open_cells.any(axis=0)):
        rows = np.flatnonzero(open_cells[:, p])
        spare[rows[np.argsort(-problem.count[rows], kind="stable")[:SPARE_CLASSES]], p] = True
    return spare


def _claim_for(merged: dict[tuple[int, int], Claim], problem: Problem, decision: Decision, i: int, r: int) -> Claim:
    if (i, r) not in merged:
        group, resource = problem.snapshot.groups[i], problem.snapshot.resources[r]
        experiment = problem.snapshot.experiments[problem.experiment_index[group.experiment]]
        merged[i, r] = Claim(
            group=group,
            experiment=experiment,
            resource=resource,
            level=int(problem.level[i]),
            position=decision.position[i],
            held=group.n_running.get(resource.name, 0),
        )
    return merged[i, r]


def _limit(claim: Claim, most: int, decision: Decision) -> None:
    """How many places a claim wants, may have at most, and may start where a budget, a deadline or a life ends it."""
    group, resource = claim.group, claim.resource
    claim.burst = max(most, claim.held)
    bounded = claim.experiment.budget_left is not None
    bounded |= claim.experiment.hard and claim.experiment.deadline_at_s is not None
    bounded |= resource.credential_until_s is not None or resource.life_left_s is not None
    unplanned = not claim.planned and (group.n_ready + group.n_blocked > 0 or bool(resource.cut_off))
    claim.quota = claim.total if decision.exact or bounded or unplanned else None
    claim.wanted = min(claim.held + claim.total, claim.burst)
    claim.reserve = decision.strict and is_large(
        group, resource.largest if resource.largest is not None else resource.capacity
    )


def _give_places(claims: list[Claim], resource: Resource, usage: Usage) -> None:
    """Gives the places of one resource out, a step at a time, to whom fairness names next."""
    free = dict(resource.capacity)
    if resource.max_tasks is not None:
        free[TASKS] = float(resource.max_tasks)
    queues: dict[str, list[Claim]] = {}
    for claim in sorted(claims, key=_claim_order, reverse=True):
        if claim.wanted > 0:
            queues.setdefault(claim.experiment.project, []).append(claim)
    while queues:
        claim = min((queue[-1] for queue in queues.values()), key=usage.turn)
        fits = max(0, copies(_cost(claim, free), free))
        step = min(claim.wanted - claim.places, fits)
        if len(queues) > 1:
            step = min(step, max(1, ceil(fits / _STEP)))
        claim.places += step
        _take(free, claim, step)
        usage.give(claim.experiment, step * usage.part(claim.group.request, claim.group.nodes))
        if step == 0 or claim.places >= claim.wanted:
            queues[claim.experiment.project].pop()
            if not queues[claim.experiment.project]:
                del queues[claim.experiment.project]


def _cost(claim: Claim, free: Mapping[str, float]) -> dict[str, float]:
    cost = {name: amount * claim.group.nodes for name, amount in claim.group.request.items()}
    return {**cost, TASKS: 1.0} if TASKS in free else cost


def _take(free: dict[str, float], claim: Claim, times: int) -> None:
    for name, amount in _cost(claim, free).items():
        free[name] = free.get(name, 0.0) - times * amount


def is_large(group: TaskGroup, worker: Mapping[str, float]) -> bool:
    """Whether small tasks could keep this one waiting for ever: gangs, and requests above a quarter of a worker."""
    return group.nodes > 1 or any(v > LARGE_PART * worker.get(k, 0.0) for k, v in group.request.items() if v > 0)
