"""What a task costs, in time, money and bytes, on each resource: the ground truth the simulator charges by.

Written from the documentation of the snapshot's types and not from the planner's arrays, so that the two check each
other.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from airavata_scheduler.scheduler_core import Resource, TaskGroup

from .instance import Instance

_DEFAULT_BANDWIDTH = 100e6
_GB = 1e9


@dataclass(frozen=True, slots=True)
class Charge:
    """One task of a group on a resource."""

    possible: bool
    run_s: float
    transfer_s: float
    moved_bytes: float
    hourly: float
    egress: float

    @property
    def hold_s(self) -> float:
        """How long the task holds its place when it takes as long as estimated."""
        return self.run_s + self.transfer_s

    @property
    def money(self) -> float:
        """What the task costs when it takes as long as estimated."""
        return self.hold_s / 3600.0 * self.hourly + self.egress


def charges(instance: Instance) -> list[list[Charge]]:
    """By group and resource."""
    return [[_charge(instance, group, resource) for resource in instance.resources] for group in instance.groups]


def _charge(instance: Instance, group: TaskGroup, resource: Resource) -> Charge:
    worker = resource.largest if resource.largest is not None else resource.capacity
    fits = all(amount <= worker.get(name, 0.0) for name, amount in group.request.items())
    fits = fits and group.nodes <= max(1, resource.workers) and group.labels <= resource.labels
    parts = [amount / worker[name] for name, amount in group.request.items() if worker.get(name, 0.0) > 0]
    units = sum(amount * resource.unit_prices.get(name, 0.0) for name, amount in group.request.items())
    transfer_s, egress, moved = _transfer(instance, group, resource)
    return Charge(
        possible=fits and transfer_s < inf,
        run_s=group.runtime.mean_s / resource.speed,
        transfer_s=transfer_s,
        moved_bytes=moved,
        hourly=(max(parts, default=0.0) * resource.price_per_hour + units) * group.nodes,
        egress=egress,
    )


def _transfer(instance: Instance, group: TaskGroup, resource: Resource) -> tuple[float, float, float]:
    if not group.inputs or resource.location in group.inputs:
        return 0.0, 0.0, 0.0
    links = {(link.source, link.target): link for link in instance.links}
    routes = []
    for place, size in group.inputs.items():
        link = links.get((place, resource.location))
        if link is None:
            routes.append((size / _DEFAULT_BANDWIDTH, 0.0, size))
        else:
            seconds = link.latency_s + size / link.bandwidth_bytes_per_s
            routes.append((seconds, size / _GB * link.price_per_gb, size))
    return min(routes)
