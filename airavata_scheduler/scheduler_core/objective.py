"""The objective, in one place and in one unit: seconds.

For an experiment `e` with weights `w`, the plan pays

    w.time     * finish_e                                  until the last task of e ends
  + w.cost     * seconds_per_money * money_e               price x time and egress, repeats of failures included
  + w.deadline * max(0, finish_e - deadline_e)             lateness, and a little for every task that is late
  + w.locality * sum of transfer seconds of its tasks
  + PENALTY    * tasks without a place                     more than any placement costs
  + arrivals   * backlog                                   see below

Experiments that come later find what is still busy: with `arrivals_per_s` (of the snapshot) of them, of mean weight
`time`, and pools that end at `end_p` and do `part_p` of all work (`parts`), they will wait
`QUEUEING * arrivals_per_s * sum_p part_p * end_p^2 / 2` seconds together. Rehearsals count that.

`finish_e` is queue wait + transfer + runtime / speed / (1 - failure rate), on top of the work queued before it.
Failure risk thus enters as the time and money of its expected repeats; stickiness as a small discount where a group
already has places. With a window (`Limits.window_s`) the finish is no variable: the time and deadline terms are then
the means, over the tasks of e, of wait + hold and of the lateness of a task.

Experiments are served in *stages* (see `stages`): what is more urgent comes first everywhere, so stage s ends when the
work of stages 0..s is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from .problem import Bools, Floats, Ints, Problem

ENDLESS_S = 1e12
MAX_STAGES = 4
#: A task that ends late counts like so many seconds more of its experiment's lateness (in rehearsals only): of plans
#: that are about equally late, the one in which more tasks are in time is preferred.
LATE_TASK_S = 1.0
#: Of rehearsed plans, one that makes more tasks late than serving by deadline would is only taken if all do: so many
#: seconds for each such task.
EXCESS_LATE_S = 1e6
#: Who finds a pool busy keeps those waiting who come after him: 1 / (1 - utilisation) times as long as without them
#: (the mean wait of an M/G/1 queue, Pollaczek 1930), at a utilisation of three quarters, as that to come is not known.
QUEUEING = 4.0
#: Of more hard deadlines than this, evenly spaced ones are rows; those between hold by dispatch and the cells alone.
MAX_HARD_BLOCKS = 6
#: Rows of a model are classes + stages x pools x dimensions; more stages than this allows are merged.
MAX_STAGE_ROWS = 1200


@dataclass(frozen=True, slots=True)
class Costs:
    """The objective's parts for one problem, as arrays.

    `cell` (C, P) is what one task adds by itself. `stage` (C,) is the stage of a class. `finish_weight`,
    `late_weight` and `due_s` (S,) price a stage's finish; all zero in a window. `penalty` (C,) is for no place.
    """

    cell: Floats
    stage: Ints
    finish_weight: Floats
    late_weight: Floats
    due_s: Floats
    penalty: Floats


def costs(problem: Problem) -> Costs:
    """Prices every cell and stage of a problem."""
    weights = problem.weights[problem.experiment]
    cell = weights[:, 1:2] * problem.money
    cell = cell + weights[:, 3:4] * np.where(np.isfinite(problem.transfer_s), problem.transfer_s, 0.0)
    cell = cell - _stickiness(problem, cell)
    windowed = problem.limits.window_s is not None
    stage, n_stages = _stages(problem)
    finish_weight, late_weight, due = np.zeros(n_stages), np.zeros(n_stages), np.full(n_stages, inf)
    if windowed:
        tasks = np.bincount(problem.experiment, problem.count, len(problem.budget))[problem.experiment][:, None]
        ends = problem.wait_s[None, :] + problem.hold_s
        late = np.maximum(0.0, ends - problem.deadline_s[:, None])
        cell = cell + (weights[:, 0:1] * ends + weights[:, 2:3] * np.where(np.isfinite(late), late, 0.0)) / tasks
    else:
        for e in np.unique(problem.experiment):
            mine = problem.experiment == e
            s = int(stage[mine][0])
            finish_weight[s] += problem.weights[e, 0]
            if np.isfinite(problem.deadline_s[mine]).any():
                late_weight[s] += problem.weights[e, 2]
                # When the last task of an experiment ends, nothing follows it: the deadline itself counts.
                due[s] = min(due[s], float(problem.deadline_s[mine].max()))
    by_second = float(finish_weight.sum() + late_weight.sum())
    return Costs(cell, stage, finish_weight, late_weight, due, _penalty(problem, cell, by_second))


def _stickiness(problem: Problem, cell: Floats) -> Floats:
    """A discount where members of a class hold places already, so that small changes do not move work."""
    previous = problem.snapshot.previous
    discount = np.zeros(cell.shape)
    if not previous or problem.limits.stickiness <= 0:
        return discount
    columns: dict[str, list[int]] = {}
    for p, pool in enumerate(problem.pools):
        columns.setdefault(problem.snapshot.resources[pool.resource].name, []).append(p)
    rows = {problem.snapshot.groups[i].key: c for c, tc in enumerate(problem.classes) for i in tc.members}
    for (group, resource), places in previous.items():
        if places > 0 and group in rows:
            discount[rows[group], columns.get(resource, [])] = 1.0
    return discount * problem.limits.stickiness * np.abs(cell)


def by_urgency(problem: Problem) -> list[int]:
    """Experiments by effective priority, then deadline, then the work they still have for their weight of time."""
    shortest = np.where(problem.allowed, problem.hold_s, np.inf).min(axis=1, initial=np.inf)
    work = np.where(np.isfinite(shortest), shortest, 0.0) * problem.count

    def urgency(e: int) -> tuple[float, float, float, int]:
        mine = problem.experiment == e
        priority = max(int(problem.level[i]) for c in np.flatnonzero(mine) for i in problem.classes[c].members)
        value = max(float(problem.weights[e, 0]), 1e-9)
        return -priority, float(problem.deadline_s[mine].min()), float(work[mine].sum()) / value, int(e)

    return sorted((int(e) for e in np.unique(problem.experiment)), key=urgency)


def _stages(problem: Problem) -> tuple[Ints, int]:
    """The stage of each class, and how many stages there are."""
    ordered = by_urgency(problem)
    if not ordered:
        return np.zeros(0, dtype=np.int64), 1
    rows = max(1, len(problem.pools) * max(1, len(problem.dims)))
    n_stages = (
        1 if problem.limits.window_s is not None else max(1, min(len(ordered), MAX_STAGES, MAX_STAGE_ROWS // rows))
    )
    place = {e: i * n_stages // len(ordered) for i, e in enumerate(ordered)}
    return np.array([place[int(e)] for e in problem.experiment], dtype=np.int64), n_stages


def _penalty(problem: Problem, cell: Floats, by_second: float) -> Floats:
    """(C,) more than waiting for any place and running there can cost, so that nothing is left out to save time."""
    ends = problem.wait_s[None, :] + problem.hold_s
    worst = np.where(problem.allowed, np.abs(cell) + by_second * ends, 0.0).max(axis=1, initial=0.0)
    penalty: Floats = 10.0 * (worst + worst.max(initial=0.0)) + 1.0
    return penalty


def arrival_weight(problem: Problem) -> float:
    """What a second of waiting of all who come later is worth, for each second that all pools are busy for longer."""
    return QUEUEING * problem.snapshot.arrivals_per_s * float(problem.weights[:, 0].mean())


def parts(problem: Problem) -> Floats:
    """(P,) the part that each pool has in what all do per second, of the tasks that are there; sums to one.

    By work and not by size: of what is moved from a pool to a faster one, those to come find as much left.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        copies = np.where(problem.request[:, None, :] > 0, problem.capacity / problem.request[:, None, :], np.inf)
        rate = np.where(problem.allowed, copies.min(axis=2, initial=np.inf) / problem.hold_s, 0.0)
    rate[~np.isfinite(rate)] = 0.0
    total = rate.sum(axis=1)
    placeable = (total > 0) & (problem.count > 0)
    if not placeable.any():
        return np.full(len(problem.pools), 1.0 / max(1, len(problem.pools)))
    seconds = problem.count[placeable] / total[placeable]
    part: Floats = seconds @ (rate[placeable] / total[placeable, None]) / seconds.sum()
    return part


def stage_loads(problem: Problem, stage: Ints, n_stages: int, x: Floats) -> Floats:
    """(S, P, D) unit-seconds of the stages up to and including s, after what runs already."""
    loads = np.zeros((n_stages, len(problem.pools), len(problem.dims))) + problem.running_load
    held = x * problem.hold_s
    for s in range(n_stages):
        mine = stage <= s
        loads[s] += held[mine].T @ problem.request[mine]
    return loads


def stage_finishes(problem: Problem, price: Costs, x: Floats) -> Floats:
    """(S,) when the stages end if every pool works without pause from its wait on."""
    n_stages = len(price.finish_weight)
    loads = stage_loads(problem, price.stage, n_stages, x)
    with np.errstate(divide="ignore", invalid="ignore"):
        new = loads > problem.running_load[None, :, :]
        busy = np.where(new, loads / problem.capacity[None, :, :], 0.0).max(axis=2, initial=0.0)
    ends = np.where(busy > 0, busy + problem.wait_s[None, :], 0.0).max(axis=1, initial=0.0)
    finishes = np.zeros(n_stages)
    # However much else a pool can run, of one class it runs no more at a time than its workers have whole room for.
    tail = problem.wait_s[None, :] + problem.hold_s * np.maximum(1.0, x / np.maximum(problem.most, 1.0))
    for s in range(n_stages):
        used = (x > 0) & (price.stage <= s)[:, None]
        finishes[s] = max(ends[s], np.where(used, tail, 0.0).max(initial=0.0))
    return finishes


def value(problem: Problem, price: Costs, x: Floats) -> float:
    """The objective of an assignment (C, P), in seconds."""
    unplaced = np.maximum(problem.count - x.sum(axis=1), 0.0)
    total = float((price.cell * x).sum() + (price.penalty * unplaced).sum())
    if not price.finish_weight.any() and not price.late_weight.any():
        return total
    finish = stage_finishes(problem, price, x)
    late = np.maximum(0.0, finish - price.due_s)
    return total + float(price.finish_weight @ finish + price.late_weight @ np.where(np.isfinite(late), late, 0.0))


@dataclass(frozen=True, slots=True)
class Block:
    """A set of classes that must fit, together, into some seconds of every pool."""

    member: Bools  #: (C,)
    seconds: Floats  #: (P,)


def fixed_blocks(problem: Problem) -> list[Block]:
    """What bounds the work of a pool whatever the plan: the window, the life of workers and credentials, deadlines.

    The hard deadlines are nested.
    """
    everyone = np.ones(len(problem.classes), dtype=np.bool_)
    blocks = []
    if problem.limits.window_s is not None:
        blocks.append(Block(everyone, _usable(problem, problem.limits.window_s)))
    elif np.isfinite(_open(problem)).any():
        # An endless life times no capacity would not be a number.
        blocks.append(Block(everyone, np.minimum(_open(problem), ENDLESS_S)))
    due = np.where(problem.hard, problem.deadline_s, np.inf)
    deadlines = np.unique(due[np.isfinite(due)])
    if len(deadlines) > MAX_HARD_BLOCKS:
        deadlines = deadlines[np.linspace(0, len(deadlines) - 1, MAX_HARD_BLOCKS).round().astype(int)]
    blocks.extend(Block(due <= deadline, _usable(problem, float(deadline))) for deadline in deadlines)
    return blocks


def blocks_within(problem: Problem, horizon_s: float) -> list[Block]:
    """The fixed blocks, and one that ends everything at a horizon."""
    everyone = np.ones(len(problem.classes), dtype=np.bool_)
    return [Block(everyone, _usable(problem, horizon_s)), *fixed_blocks(problem)]


def _usable(problem: Problem, horizon_s: float) -> Floats:
    seconds: Floats = np.minimum(np.maximum(horizon_s - problem.wait_s, 0.0), _open(problem))
    return seconds


def _open(problem: Problem) -> Floats:
    """(P,) seconds from the end of the wait to the end of the workers' life or of the credential; inf without end."""
    seconds: Floats = np.minimum(problem.life_s, np.maximum(problem.credential_s - problem.wait_s, 0.0))
    return seconds
