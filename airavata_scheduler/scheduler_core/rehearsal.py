"""Rehearsing a plan task by task on a virtual clock: what it would lead to, before anything starts.

A *script* says, for every pool, which groups run there, how many tasks of each, and in which order. A rehearsal starts,
on each pool, whatever comes first in its order, is ready and fits, and so on until all is done: exactly what workers do
when they claim from the shares that a script becomes. In a strict script gangs and large tasks are not overtaken. What
would end after a hard deadline, the life of its workers or the end of a credential is not started.

A group follows its only predecessor task by task if it has a blocked task for each unfinished one there, otherwise it
waits for all of its predecessors. What runs already is unfinished until it ends.

Very many tasks are rehearsed in *bundles*: alike tasks that run one after the other in one place. A bundle plays the
part of one task that is as much longer and dearer; *task* below means either.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

import numpy as np

from .objective import EXCESS_LATE_S, LATE_TASK_S, Costs, arrival_weight, parts
from .problem import EPSILON, Bools, Floats, Problem, Running
from .shares import LARGE_PART

_MANY = 1_000_000


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays: the groups of a problem, as plain lists (numpy scalars are slow one at a time)."""

    problem: Problem
    price: Costs
    index: list[int]  #: of each group in the snapshot; predecessors are known by it, as some of them only run
    place: dict[int, int]  #: group by index
    row: list[int]  #: class of each group
    experiment: list[int]
    size: list[int]  #: tasks to place
    each: list[float]  #: tasks in one bundle of each group; 1 without bundles
    blocked: list[int]  #: of which not ready yet
    request: list[tuple[float, ...]]
    hold: list[list[float]]  #: [group][pool], seconds
    money: list[list[float]]
    cell: list[list[float]]
    allowed: list[list[bool]]
    level: list[int]
    due_s: list[float]  #: the deadline, less the work that follows
    deadline_s: list[float]
    until_s: list[list[float]]  #: [group][pool] when a task must have ended there
    rank_s: list[float]
    parents: list[list[int]]  #: by index, those with unfinished tasks
    children: dict[int, list[int]]  #: groups by the index of a predecessor
    unfinished: list[int]  #: by index
    in_step: list[bool]  #: follows its only predecessor task by task
    released_s: list[float]  #: not before running predecessors have ended
    large: list[list[bool]]  #: [group][pool] must not be overtaken there
    most: list[list[int]]  #: [group][pool] at a time
    capacity: list[tuple[float, ...]]
    wait: list[float]
    part: list[float]  #: of all capacity
    least: tuple[float, ...]  #: the smallest request, by dimension
    late_allowed: float = inf  #: tasks that may end late before a script is judged as hardly better than none

    def is_full(self, free: list[float]) -> bool:
        """Whether not even the smallest request of each dimension would fit."""
        return any(left + EPSILON * max(1.0, least) < least for left, least in zip(free, self.least, strict=True))

    def freed(self, child: int, n: int, unfinished: list[int]) -> int:
        """Tasks of a group that become ready as n tasks of a predecessor end; `unfinished` is without those."""
        if self.in_step[child]:
            return n
        return 0 if any(unfinished[parent] for parent in self.parents[child]) else self.blocked[child]

    @property
    def chained(self) -> bool:
        """Whether any group waits for another."""
        return any(self.parents)


@dataclass(slots=True)
class Script:
    """`quota[group][pool]` tasks, and the groups in the order in which every pool serves them."""

    quota: list[list[int]]
    order: list[int]
    name: str = ""
    strict: bool = True  #: large tasks are not overtaken


@dataclass(slots=True)
class Outcome:
    """What a rehearsal led to, by pool and then by group; seconds from now. Absent groups started nothing there."""

    first_start: list[dict[int, float]]
    end: list[dict[int, float]]
    started: list[dict[int, int]]
    late: list[dict[int, int]]  #: tasks that ended after the deadline of their experiment

    def with_pools(self, pools: list[int], other: Outcome) -> Outcome:
        """This outcome with some pools taken from another; only if no group waits for another."""
        merged = Outcome(self.first_start[:], self.end[:], self.started[:], self.late[:])
        for p in pools:
            merged.first_start[p], merged.end[p] = other.first_start[p], other.end[p]
            merged.started[p], merged.late[p] = other.started[p], other.late[p]
        return merged

    def pool_end(self, pool: int) -> float:
        """When the last task of a pool ends; zero if it has none."""
        return max(self.end[pool].values(), default=0.0)


def cast(problem: Problem, price: Costs, bundle: int = 1) -> Cast:
    """The groups of a problem with what a rehearsal needs to know of each, in bundles of at most so many tasks."""
    groups = problem.snapshot.groups
    members = [(i, c) for c, task_class in enumerate(problem.classes) for i in task_class.members]
    rows = [c for _, c in members]
    tasks = [groups[i].n_ready + groups[i].n_blocked for i, _ in members]
    size = [-(-n // bundle) for n in tasks]
    each = [n / bundles if bundles else 1.0 for n, bundles in zip(tasks, size, strict=True)]
    scale = np.array(each)[:, None]
    chain = _chain(problem, members)
    of = [int(problem.experiment[c]) for c in rows]
    return Cast(
        problem=problem,
        price=price,
        index=[i for i, _ in members],
        place={i: g for g, (i, _) in enumerate(members)},
        row=rows,
        experiment=of,
        size=size,
        each=each,
        blocked=[
            min(size[g], -(-groups[i].n_blocked // bundle)) if chain.parents[g] else 0
            for g, (i, _) in enumerate(members)
        ],
        request=[tuple(problem.request[c].tolist()) for c in rows],
        hold=(problem.hold_s[rows] * scale).tolist(),
        money=(problem.money[rows] * scale).tolist(),
        cell=(price.cell[rows] * scale).tolist(),
        allowed=problem.allowed[rows].tolist(),
        level=[int(problem.level[i]) for i, _ in members],
        due_s=problem.deadline_s[rows].tolist(),
        deadline_s=problem.due_s[of].tolist(),
        until_s=until(problem)[rows].tolist(),
        rank_s=[groups[i].rank_s for i, _ in members],
        parents=chain.parents,
        children=chain.children,
        unfinished=chain.unfinished,
        in_step=chain.in_step,
        released_s=chain.released_s,
        large=large(problem)[rows].tolist(),
        most=np.minimum(problem.most[rows], _MANY).astype(int).tolist(),
        capacity=[tuple(row) for row in problem.capacity.tolist()],
        wait=problem.wait_s.tolist(),
        part=parts(problem).tolist(),
        least=tuple(problem.request.min(axis=0, initial=np.inf).tolist()) if rows else (),
    )


@dataclass(slots=True)
class _Chain:
    """Who waits for whom; the fields of the same names in `Cast`."""

    parents: list[list[int]]
    children: dict[int, list[int]]
    unfinished: list[int]
    in_step: list[bool]
    released_s: list[float]


def _chain(problem: Problem, members: list[tuple[int, int]]) -> _Chain:
    """What waits for what is open: tasks that run, are ready, or are blocked themselves. `members` (index, class)."""
    groups = problem.snapshot.groups
    unfinished = [g.n_ready + g.n_blocked for g in groups]
    left_s: dict[int, list[float]] = {}
    for task in problem.running:
        unfinished[task.group] += 1
        left_s.setdefault(task.group, []).append(task.left_s)
    place = {group.key: i for i, group in enumerate(groups)}
    chain = _Chain([], {}, unfinished, [], [])
    for g, (i, _) in enumerate(members):
        mine = [place[key] for key in groups[i].after if key in place and unfinished[place[key]] > 0]
        in_step = len(mine) == 1 and groups[i].n_blocked == unfinished[mine[0]]
        ends = [left for parent in mine for left in left_s.get(parent, [])]
        chain.parents.append(mine)
        chain.in_step.append(in_step)
        chain.released_s.append(0.0 if not ends else min(ends) if in_step else max(ends))
        for parent in mine:
            chain.children.setdefault(parent, []).append(g)
    return chain


class _Stage:
    """The state of one rehearsal."""

    def __init__(self, who: Cast, script: Script, pools: list[int]) -> None:
        self.who = who
        self.strict = script.strict
        self.quota = [row[:] for row in script.quota]
        self.ready = [n - b for n, b in zip(who.size, who.blocked, strict=True)]
        self.unfinished = who.unfinished[:]
        self.room = [row[:] for row in who.most]
        self.free = {p: list(who.capacity[p]) for p in pools}
        self.queue = {p: [g for g in script.order if script.quota[g][p] > 0] for p in pools}
        self.events: list[tuple[float, int, int, int, int]] = []
        self.sequence = 0
        every = range(len(who.capacity))
        self.outcome = Outcome([{} for _ in every], [{} for _ in every], [{} for _ in every], [{} for _ in every])

    def push(self, at: float, group: int, pool: int, n: int = 1) -> None:
        """Adds an event: n tasks of a group end on a pool, or (group -1) a pool opens."""
        self.sequence += 1
        heappush(self.events, (at, self.sequence, group, pool, n))

    def occupy(self) -> None:
        """Lets the tasks that run already hold their places until they end (events of group -2 - index)."""
        for i, task in enumerate(self.who.problem.running):
            if task.pool in self.free:
                for d, amount in enumerate(task.request):
                    self.free[task.pool][d] -= amount
                self._hold(task, 1)
                self.push(task.left_s, -2 - i, task.pool)

    def _hold(self, task: Running, n: int) -> None:
        if task.group in self.who.place:
            self.room[self.who.place[task.group]][task.pool] -= n

    def vacate(self, index: int, pool: int) -> set[int]:
        """Ends a task that ran before the rehearsal began; returns the pools that may have something to do now."""
        task = self.who.problem.running[index]
        for d, amount in enumerate(task.request):
            self.free[pool][d] += amount
        self._hold(task, -1)
        return self._follow(task.group, 1) | {pool}

    def serve(self, pool: int, at: float) -> None:
        """Starts what can start on a pool, in its order."""
        who, free, queue = self.who, self.free[pool], self.queue[pool]
        used_up = False
        if who.is_full(free):
            return
        for g in queue:
            left = self.quota[g][pool]
            request = who.request[g]
            n = min(left, self.ready[g])
            if n > 0 and at + who.hold[g][pool] > who.until_s[g][pool] + EPSILON:
                continue
            if n > 0:
                n = min(n, copies_free(request, free), self.room[g][pool])
            if n > 0:
                left -= n
                self.room[g][pool] -= n
                self.ready[g] -= n
                for d, amount in enumerate(request):
                    free[d] -= n * amount
                self.push(at + who.hold[g][pool], g, pool, n)
                self.outcome.started[pool][g] = self.outcome.started[pool].get(g, 0) + n
                self.outcome.first_start[pool].setdefault(g, at)
                self.quota[g][pool] = left
            used_up |= left == 0
            if left > 0 and self.strict and self.ready[g] > 0 and who.large[g][pool]:
                break
            if n > 0 and who.is_full(free):
                break
        if used_up:
            self.queue[pool] = [g for g in queue if self.quota[g][pool] > 0]

    def end(self, group: int, pool: int, n: int, at: float) -> set[int]:
        """Ends n tasks; returns the pools that may have something to do now."""
        free = self.free[pool]
        for d, amount in enumerate(self.who.request[group]):
            free[d] += n * amount
        self.room[group][pool] += n
        self.outcome.end[pool][group] = at
        if at > self.who.deadline_s[group] + EPSILON:
            self.outcome.late[pool][group] = self.outcome.late[pool].get(group, 0) + n
        return self._follow(self.who.index[group], n) | {pool}

    def _follow(self, index: int, n: int) -> set[int]:
        """N tasks of one of the snapshot's groups have ended: the pools that have something to do by that."""
        self.unfinished[index] -= n
        touched: set[int] = set()
        for child in self.who.children.get(index, ()):
            freed = self.who.freed(child, n, self.unfinished)
            if freed:
                self.ready[child] += freed
                touched |= {p for p, left in enumerate(self.quota[child]) if left > 0}
        return touched


def rehearse(who: Cast, script: Script, pools: list[int] | None = None) -> Outcome:
    """Plays a script, on all pools or on a few (only if no group waits for another)."""
    pools = list(range(len(who.capacity))) if pools is None else pools
    stage = _Stage(who, script, pools)
    opened: set[int] = set()
    stage.occupy()
    for p in pools:
        stage.push(who.wait[p], -1, p)
    while stage.events:
        at = stage.events[0][0]
        touched: set[int] = set()
        while stage.events and stage.events[0][0] <= at + EPSILON:
            _, _, group, pool, n = heappop(stage.events)
            if group == -1:
                opened.add(pool)
                touched.add(pool)
            elif group < -1:
                touched |= stage.vacate(-2 - group, pool)
            else:
                touched |= stage.end(group, pool, n, at)
        for pool in sorted(touched & opened):
            stage.serve(pool, at)
    return stage.outcome


def judge(who: Cast, outcome: Outcome) -> float:
    """The objective of what a rehearsal led to: `objective.value`, with finishes as they were seen."""
    problem, price = who.problem, who.price
    unplaced = who.size[:]
    ends, late = [0.0] * len(problem.budget), [0.0] * len(problem.budget)
    total = LATE_TASK_S * _late(who, outcome, problem.weights[:, 2])
    if who.late_allowed < inf:
        total += EXCESS_LATE_S * max(0.0, late_tasks(who, outcome) - who.late_allowed)
    for p, started in enumerate(outcome.started):
        for g, n in started.items():
            total += n * who.cell[g][p]
            unplaced[g] -= n
        for g, end in outcome.end[p].items():
            e = who.experiment[g]
            ends[e] = max(ends[e], end)
            late[e] = max(late[e], end - who.due_s[g])
    total += sum(n * who.each[g] * float(price.penalty[who.row[g]]) for g, n in enumerate(unplaced) if n)
    if problem.limits.window_s is not None:
        return total
    total += float(np.dot(problem.weights[:, 0], ends) + np.dot(problem.weights[:, 2], late))
    # Who comes at a time t finds each pool busy for another `end - t`.
    busy = sum(part * outcome.pool_end(p) ** 2 / 2.0 for p, part in enumerate(who.part))
    return total + arrival_weight(problem) * busy


def late_tasks(who: Cast, outcome: Outcome) -> float:
    """How many tasks ended late, of experiments to which that matters."""
    return _late(who, outcome, np.where(who.problem.weights[:, 2] > 0, 1.0, 0.0))


def _late(who: Cast, outcome: Outcome, weight: Floats) -> float:
    return sum(n * who.each[g] * float(weight[who.experiment[g]]) for missed in outcome.late for g, n in missed.items())


Tried = tuple[Script, Outcome, float]  #: a script, what it leads to, and its objective


def rehearsed(who: Cast, script: Script) -> Tried:
    """Plays a script and judges it."""
    outcome = rehearse(who, script)
    return script, outcome, judge(who, outcome)


def copies_free(request: tuple[float, ...], free: list[float]) -> int:
    """How many times a request fits what is free."""
    most = float(_MANY)
    for amount, left in zip(request, free, strict=True):
        if amount > 0:
            most = min(most, (left + EPSILON * max(1.0, amount)) / amount)
    return int(most) if most > 0 else 0


def until(problem: Problem) -> Floats:
    """(C, P) the last moment a task may end: hard deadlines, the life of workers, the end of credentials."""
    due = np.where(problem.hard, problem.deadline_s, np.inf)
    last: Floats = np.minimum(due[:, None], np.minimum(problem.wait_s + problem.life_s, problem.credential_s)[None, :])
    return last


def large(problem: Problem) -> Bools:
    """(C, P) whether a class must not be overtaken on a pool; see `shares.is_large`."""
    gang = np.array([task_class.nodes > 1 for task_class in problem.classes], dtype=np.bool_)
    limited = problem.node_request[:, None, :] > LARGE_PART * problem.worker[None, :, :]
    found: Bools = gang[:, None] | limited.any(axis=2)
    return found
