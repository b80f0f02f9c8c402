"""One benchmark instance: what has to run, on what, and when it arrives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from airavata_scheduler.scheduler_core import Experiment, Link, Resource, TaskGroup


@dataclass(frozen=True, slots=True)
class Instance:
    """Everything a policy is measured on; times in seconds from 0.

    `arrival_s[experiment]` is when its groups become known (0 if absent); `arrivals_per_s` is how often experiments
    came in the hour before, as the history of a platform shows it. `bounded` says that the linear programme's optimum
    is a lower bound of the instance's objective: one experiment, everything known at the start.
    """

    name: str
    resources: tuple[Resource, ...]
    experiments: tuple[Experiment, ...]
    groups: tuple[TaskGroup, ...]
    links: tuple[Link, ...] = ()
    arrival_s: Mapping[str, float] = field(default_factory=dict)
    arrivals_per_s: float = 0.0
    bounded: bool = False
