"""Requests that fill workers badly, as dimensions of their own.

Tasks of three cores on workers of four run one at a time on each, whatever the sum of all cores says. Solvers see
pools as sums; for them every *shape* (one request, of any number of classes) that some pool runs fewer of than its sum
would hold becomes a dimension, of which a task takes one and a pool has as many as it runs at a time.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .problem import UNLIMITED, Floats, Ints, Problem, held_load

MAX_SHAPES = 8
#: Capacity rows of a model, stages times pools times dimensions, that shapes may bring it to.
MAX_ROWS = 2000
#: A shape that loses less than this part of a pool needs no dimension.
_LOSS = 0.01


def with_shapes(problem: Problem, n_stages: int) -> Problem:
    """The problem with a dimension for each shape that loses work, the most first; the same one if there is none.

    A window stays one of sums: it says where work may begin, not when it ends, and is solved as a flow.
    """
    if problem.limits.window_s is not None:
        return problem
    lost = _lost(problem)
    loses = lost > _LOSS
    rows = MAX_ROWS // max(1, n_stages * len(problem.pools)) - len(problem.dims)
    members = _members(problem, lost)[: max(0, min(MAX_SHAPES, rows))]
    if not members:
        return problem
    of_shape = np.array([np.isin(np.arange(len(problem.classes)), mine) for mine in members]).T.astype(np.float64)
    amounts = np.stack(
        [np.where(loses[mine].any(axis=0), problem.most[mine].max(axis=0), UNLIMITED) for mine in members], axis=1
    )
    nodes = np.array([task_class.nodes for task_class in problem.classes], dtype=np.float64)[:, None]
    capacity = np.hstack([problem.capacity, amounts])
    shapes = [(tuple(problem.request[mine[0]].tolist()), problem.classes[mine[0]].nodes) for mine in members]
    groups = problem.snapshot.groups
    running = tuple(
        replace(task, request=(*task.request, *(float(s == (task.request, groups[task.group].nodes)) for s in shapes)))
        for task in problem.running
    )
    now, endless = np.zeros(len(problem.pools)), np.full(len(problem.pools), np.inf)
    return replace(
        problem,
        dims=(*problem.dims, *(f"#shape {k}" for k in range(len(shapes)))),
        request=np.hstack([problem.request, of_shape]),
        node_request=np.hstack([problem.node_request, of_shape / nodes]),
        capacity=capacity,
        worker=np.hstack([problem.worker, amounts]),
        running=running,
        running_load=held_load(running, capacity, now, endless),
    )


def _lost(problem: Problem) -> Floats:
    """(C, P) the part of a pool that is lost to a class: whole workers run fewer of it than their sum would hold."""
    fluid = np.full(problem.most.shape, np.inf)
    for d in range(len(problem.dims)):
        asked = np.flatnonzero(problem.request[:, d] > 0)
        fluid[asked] = np.minimum(fluid[asked], problem.capacity[None, :, d] / problem.request[asked, d : d + 1])
    with np.errstate(divide="ignore", invalid="ignore"):
        lost: Floats = np.where(problem.allowed & np.isfinite(fluid), 1.0 - problem.most / fluid, 0.0)
    return lost


def _members(problem: Problem, lost: Floats) -> list[Ints]:
    """The classes of each shape that loses somewhere, by the work that could be lost."""
    quickest: Floats = np.where(problem.allowed, problem.hold_s, np.inf).min(axis=1, initial=np.inf)
    shapes: dict[tuple[int, bytes], list[int]] = {}
    for c in np.flatnonzero((lost > _LOSS).any(axis=1)):
        shapes.setdefault((problem.classes[c].nodes, problem.request[c].tobytes()), []).append(int(c))

    def at_stake(mine: list[int]) -> float:
        return float((problem.count[mine] * quickest[mine]).sum() * lost[mine].max())

    return [np.array(mine) for mine in sorted(shapes.values(), key=at_stake, reverse=True)]
