"""Groups to classes: what the decision does not depend on is not distinguished.

The key of a class: experiment, request (exact), nodes, labels, resources to avoid, effective priority, locations of
the inputs and the powers of two their sizes lie between, and buckets of rank, runtime and failure rate, in general and
on each resource where they were learnt. Runtime and rank buckets are geometric (factor `1.1` first). When there are
still too many classes, the factor grows (1.5, 3, 10) until they fit. Gangs are never merged with others and requests
are never averaged, so aggregation cannot hide a large task among small ones. A class's runtime is the mean over its
tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from math import floor, log

from .snapshot import Estimate, Snapshot, TaskGroup

_FACTORS = (1.1, 1.5, 3.0, 10.0, 1000.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskClass:
    """Groups planned as one row. `count` tasks need a place: ready and blocked ones, not those that run."""

    members: tuple[int, ...]
    experiment: str
    request: Mapping[str, float]
    nodes: int
    runtime: Estimate
    runtime_on: Mapping[str, Estimate] = field(default_factory=dict)
    failure_rate: float
    failure_on: Mapping[str, float] = field(default_factory=dict)
    inputs: Mapping[str, float]
    labels: frozenset[str]
    avoid: frozenset[str]
    priority: int
    rank_s: float
    count: int


def bucket(value: float, factor: float) -> int:
    """The index of the geometric bucket a positive value lies in; values below a microsecond share one."""
    return floor(log(max(value, 1e-6), factor))


def classify(snapshot: Snapshot, max_classes: int) -> tuple[TaskClass, ...]:
    """The classes of a snapshot's groups that have tasks to place, in the order of their first member.

    More than `max_classes` remain only if the groups differ in what must never be merged.
    """
    active = [i for i, g in enumerate(snapshot.groups) if g.n_ready + g.n_blocked > 0]
    if len(active) <= max_classes:
        return tuple(_merge(snapshot.groups, (i,)) for i in active)
    keyed: dict[Hashable, list[int]] = {}
    for factor in _FACTORS:
        keyed = {}
        for i in active:
            keyed.setdefault(_key(snapshot.groups[i], i, factor), []).append(i)
        if len(keyed) <= max_classes:
            break
    return tuple(_merge(snapshot.groups, tuple(members)) for members in keyed.values())


def _key(group: TaskGroup, index: int, factor: float) -> Hashable:
    if group.nodes > 1:
        return index
    return (
        group.experiment,
        tuple(sorted(group.request.items())),
        group.labels,
        group.avoid,
        group.priority,
        # A rehearsal that starts a group which is ready must not be followed by a share for one that waits for others.
        (group.n_ready > 0, group.n_blocked > 0),
        tuple(sorted((place, bucket(size, max(2.0, factor))) for place, size in group.inputs.items())),
        bucket(group.runtime.mean_s, factor),
        bucket(group.rank_s, factor),
        floor(group.failure_rate * 10),
        tuple(sorted((place, bucket(learnt.mean_s, factor)) for place, learnt in group.runtime_on.items())),
        tuple(sorted((place, floor(rate * 10)) for place, rate in group.failure_on.items())),
    )


def _merge(groups: tuple[TaskGroup, ...], members: tuple[int, ...]) -> TaskClass:
    first = groups[members[0]]
    if len(members) == 1:
        return _alone(first, members[0])
    parts = [groups[i] for i in members]
    sizes = [g.n_ready + g.n_blocked for g in parts]

    def mean(values: Iterable[float]) -> float:
        return sum(value * n for value, n in zip(values, sizes, strict=True)) / sum(sizes)

    return TaskClass(
        members=members,
        experiment=first.experiment,
        request=first.request,
        nodes=first.nodes,
        runtime=_pooled([g.runtime for g in parts], mean),
        runtime_on={k: _pooled([g.runtime_on[k] for g in parts], mean) for k in first.runtime_on},
        failure_rate=mean(g.failure_rate for g in parts),
        failure_on={k: mean(g.failure_on[k] for g in parts) for k in first.failure_on},
        inputs={k: mean(g.inputs[k] for g in parts) for k in first.inputs},
        labels=first.labels,
        avoid=first.avoid,
        priority=first.priority,
        rank_s=max(g.rank_s for g in parts),
        count=sum(sizes),
    )


def _alone(group: TaskGroup, index: int) -> TaskClass:
    return TaskClass(
        members=(index,),
        experiment=group.experiment,
        request=group.request,
        nodes=group.nodes,
        runtime=group.runtime,
        runtime_on=group.runtime_on,
        failure_rate=group.failure_rate,
        failure_on=group.failure_on,
        inputs=group.inputs,
        labels=group.labels,
        avoid=group.avoid,
        priority=group.priority,
        rank_s=group.rank_s,
        count=group.n_ready + group.n_blocked,
    )


def _pooled(estimates: list[Estimate], mean: Callable[[Iterable[float]], float]) -> Estimate:
    """One estimate for the tasks of several groups; its range covers all of theirs."""
    bounds = [found.bounds() for found in estimates]
    return Estimate(
        mean_s=mean(found.mean_s for found in estimates),
        low_s=min(low for low, _ in bounds),
        high_s=max(high for _, high in bounds),
        n=sum(found.n for found in estimates),
    )
