"""The priority that counts between the groups of a project: the given one, and more the longer a group waits."""

from __future__ import annotations

from math import floor

from .snapshot import Experiment, Limits, TaskGroup


def effective_priority(group: TaskGroup, experiment: Experiment, now: float, limits: Limits) -> int:
    """The priority that counts: a group without a single place gains a level for every `ageing_s` it waits."""
    priority = experiment.priority + group.priority
    if sum(group.n_running.values()) > 0:
        return priority
    since = experiment.submitted_at_s if group.waiting_since_s is None else group.waiting_since_s
    return priority + floor(max(0.0, now - since) / limits.ageing_s)
