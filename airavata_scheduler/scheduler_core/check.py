"""Whether a snapshot can be planned with; the first fault found is named with its path, its value and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from math import isfinite
from typing import Any

from .errors import SnapshotError
from .snapshot import Estimate, Experiment, Limits, Link, Resource, Snapshot, TaskGroup, Weights, WorkerOffer

_MOST_TASKS = 10**12
_HIGHEST_PRIORITY = 10**6
_PAIR = 2
#: The usual types first: to ask an abstract one takes five times as long, and each plan asks thousands of times.
_MAPPINGS = (dict, Mapping)
_COLLECTIONS = (frozenset, tuple, AbstractSet)


def check(snapshot: Snapshot, now: float, limits: Limits) -> None:
    """Raises SnapshotError for the first field that is out of its domain; references are checked by name."""
    _finite("now", now)
    _limits(limits)
    _amount("arrivals_per_s", snapshot.arrivals_per_s)
    _previous(snapshot.previous)
    _unique("experiments", [e.key for e in snapshot.experiments])
    _unique("groups", [g.key for g in snapshot.groups])
    _unique("resources", [r.name for r in snapshot.resources])
    _unique("projects", [p.key for p in snapshot.projects])
    for i, project in enumerate(snapshot.projects):
        _positive(f"projects[{i}].weight", project.weight)
    for i, experiment in enumerate(snapshot.experiments):
        _experiment(f"experiments[{i}]", experiment)
    experiments = {e.key for e in snapshot.experiments}
    for i, group in enumerate(snapshot.groups):
        _group(f"groups[{i}]", group, experiments)
    for i, resource in enumerate(snapshot.resources):
        _resource(f"resources[{i}]", resource)
    ways: set[tuple[str, str]] = set()
    for i, link in enumerate(snapshot.links):
        _link(f"links[{i}]", link)
        if (link.source, link.target) in ways:
            raise SnapshotError(f"links[{i}].target", link.target, f"give one link only from {link.source} to it")
        ways.add((link.source, link.target))


def _limits(limits: Limits) -> None:
    _positive("limits.time_s", limits.time_s)
    _positive("limits.max_classes", limits.max_classes)
    _positive("limits.ageing_s", limits.ageing_s)
    for name in ("detail_tasks", "effort"):
        _count(f"limits.{name}", getattr(limits, name))
    for name in ("stickiness", "default_bandwidth_bytes_per_s"):
        _amount(f"limits.{name}", getattr(limits, name))
    if limits.window_s is not None:
        _positive("limits.window_s", limits.window_s)
    if limits.solver not in ("auto", "greedy", "flow", "linear"):
        raise SnapshotError("limits.solver", limits.solver, "choose auto, greedy, flow or linear")


def _experiment(path: str, experiment: Experiment) -> None:
    if not isinstance(experiment.weights, Weights):
        raise SnapshotError(f"{path}.weights", experiment.weights, "give Weights")
    _priority(f"{path}.priority", experiment.priority)
    for name in ("allow", "deny"):
        _names(f"{path}.{name}", getattr(experiment, name))
    for name in ("time", "cost", "deadline", "locality", "seconds_per_money"):
        _amount(f"{path}.weights.{name}", getattr(experiment.weights, name))
    if experiment.deadline_at_s is not None:
        _finite(f"{path}.deadline_at_s", experiment.deadline_at_s)
    if experiment.budget_left is not None:
        _finite(f"{path}.budget_left", experiment.budget_left)
    _finite(f"{path}.submitted_at_s", experiment.submitted_at_s)


def _group(path: str, group: TaskGroup, experiments: set[str]) -> None:
    if group.experiment not in experiments:
        raise SnapshotError(f"{path}.experiment", group.experiment, "add an experiment of that key to the snapshot")
    _kinds(path, group)
    _vector(f"{path}.request", group.request)
    _vector(f"{path}.inputs", group.inputs)
    _estimate(f"{path}.runtime", group.runtime)
    for name, estimate in group.runtime_on.items():
        _estimate(f"{path}.runtime_on[{name!r}]", estimate)
    _running(path, group)
    for name in ("n_ready", "n_blocked", "nodes"):
        _count(f"{path}.{name}", getattr(group, name))
    _positive(f"{path}.nodes", group.nodes)
    _amount(f"{path}.rank_s", group.rank_s)
    if group.waiting_since_s is not None:
        _finite(f"{path}.waiting_since_s", group.waiting_since_s)
    if group.key in group.after:
        raise SnapshotError(f"{path}.after", group.key, "a group cannot wait for itself")
    _rate(f"{path}.failure_rate", group.failure_rate)
    for name, rate in group.failure_on.items():
        _rate(f"{path}.failure_on[{name!r}]", rate)


def _kinds(path: str, group: TaskGroup) -> None:
    _priority(f"{path}.priority", group.priority)
    for name in ("labels", "avoid", "after"):
        _names(f"{path}.{name}", getattr(group, name))
    for name in ("runtime_on", "failure_on", "n_running", "running_left_s"):
        _mapping(f"{path}.{name}", getattr(group, name))


def _running(path: str, group: TaskGroup) -> None:
    for name, running in group.n_running.items():
        _count(f"{path}.n_running[{name!r}]", running)
    for name, ends in group.running_left_s.items():
        if not isinstance(ends, Sequence):
            raise SnapshotError(f"{path}.running_left_s[{name!r}]", ends, "give the seconds left of each running task")
        for i, left in enumerate(ends):
            _amount(f"{path}.running_left_s[{name!r}][{i}]", left)


def _resource(path: str, resource: Resource) -> None:
    for name in ("capacity", "largest", "unit_prices"):
        vector = getattr(resource, name)
        if vector is not None:
            _vector(f"{path}.{name}", vector)
    _names(f"{path}.labels", resource.labels)
    _sizes(f"{path}.sizes", resource.sizes)
    for name in ("workers", "max_tasks"):
        value = getattr(resource, name)
        if value is not None:
            _count(f"{path}.{name}", value)
    for name in ("price_per_hour", "queue_wait_s", "life_left_s"):
        value = getattr(resource, name)
        if value is not None:
            _amount(f"{path}.{name}", value)
    if resource.credential_until_s is not None:
        _finite(f"{path}.credential_until_s", resource.credential_until_s)
    _positive(f"{path}.speed", resource.speed)
    _rate(f"{path}.failure_rate", resource.failure_rate)
    _unique(f"{path}.offers", [offer.name for offer in resource.offers])
    for i, offer in enumerate(resource.offers):
        _offer(f"{path}.offers[{i}]", offer)


def _sizes(path: str, sizes: Sequence[object]) -> None:
    for i, sized in enumerate(sizes):
        if not isinstance(sized, tuple) or len(sized) != _PAIR:
            raise SnapshotError(f"{path}[{i}]", sized, "give a pair of a size and a number of workers")
        _vector(f"{path}[{i}][0]", sized[0])
        _count(f"{path}[{i}][1]", sized[1])


def _offer(path: str, offer: WorkerOffer) -> None:
    _vector(f"{path}.size", offer.size)
    _count(f"{path}.max_workers", offer.max_workers)
    _amount(f"{path}.idle_price_per_hour", offer.idle_price_per_hour)
    if not isinstance(offer.queue_wait, Estimate):
        raise SnapshotError(f"{path}.queue_wait", offer.queue_wait, "give an Estimate")
    _amount(f"{path}.queue_wait.mean_s", offer.queue_wait.mean_s)
    if offer.walltime_s is not None:
        _positive(f"{path}.walltime_s", offer.walltime_s)


def _link(path: str, link: Link) -> None:
    for name in ("bandwidth_bytes_per_s", "price_per_gb", "latency_s"):
        _amount(f"{path}.{name}", getattr(link, name))


def _estimate(path: str, estimate: Estimate) -> None:
    if not isinstance(estimate, Estimate):
        raise SnapshotError(path, estimate, "give an Estimate")
    _positive(f"{path}.mean_s", estimate.mean_s)
    for name in ("low_s", "high_s"):
        value = getattr(estimate, name)
        if value is not None:
            _amount(f"{path}.{name}", value)


def _vector(path: str, vector: Mapping[str, float]) -> None:
    _mapping(path, vector)
    for name, amount in vector.items():
        _amount(f"{path}.{name}", amount)


def _mapping(path: str, value: object) -> None:
    if not isinstance(value, _MAPPINGS):
        raise SnapshotError(path, value, "give a mapping, of names to amounts or estimates")


def _names(path: str, value: object) -> None:
    if not isinstance(value, _COLLECTIONS) or not all(isinstance(name, str) for name in value):
        raise SnapshotError(path, value, "give a set of names")


def _previous(previous: Mapping[Any, int]) -> None:
    _mapping("previous", previous)
    for key, places in previous.items():
        if not isinstance(key, tuple) or len(key) != _PAIR:
            raise SnapshotError("previous", key, "give pairs of a group and a resource as keys")
        _count(f"previous[{key!r}]", places)


def _unique(path: str, keys: Iterable[str]) -> None:
    seen: set[str] = set()
    for i, key in enumerate(keys):
        if not key or key in seen:
            raise SnapshotError(f"{path}[{i}]", key, "give every entry a name of its own, not empty")
        seen.add(key)


def _is_finite(value: object) -> bool:
    try:
        return isinstance(value, (int, float)) and isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _finite(path: str, value: float) -> None:
    if not _is_finite(value):
        raise SnapshotError(path, value, "give a finite number")


def _amount(path: str, value: float) -> None:
    if not _is_finite(value) or value < 0:
        raise SnapshotError(path, value, "give a finite number that is not negative")


def _count(path: str, value: float) -> None:
    if not isinstance(value, int) or not 0 <= value <= _MOST_TASKS:
        raise SnapshotError(path, value, f"give a whole number from 0 to {_MOST_TASKS}")


def _priority(path: str, value: float) -> None:
    if not isinstance(value, int) or abs(value) > _HIGHEST_PRIORITY:
        raise SnapshotError(path, value, f"give a whole number from -{_HIGHEST_PRIORITY} to {_HIGHEST_PRIORITY}")


def _positive(path: str, value: float) -> None:
    if not _is_finite(value) or value <= 0:
        raise SnapshotError(path, value, "give a finite number above zero")


def _rate(path: str, value: float) -> None:
    if not _is_finite(value) or not 0 <= value < 1:
        raise SnapshotError(path, value, "give a probability of at least 0 and below 1")
