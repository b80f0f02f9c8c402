"""How many tasks fit at a time: each within one worker, so that what is free in several of them does not add up."""

from __future__ import annotations

from math import ceil, floor

import numpy as np
import numpy.typing as npt

from .snapshot import Resource, Vector

_UNBOUNDED = 1_000_000
_ROUNDING = 1e-6


def copies(request: Vector, capacity: Vector) -> int:
    """How many times a request fits a capacity vector; a request of nothing fits a million times."""
    ratios = [capacity.get(k, 0.0) / v for k, v in request.items() if v > 0]
    return floor(min(ratios) + _ROUNDING) if ratios else _UNBOUNDED


def sizes_of(resource: Resource) -> tuple[tuple[Vector, int], ...]:
    """The live workers of a resource, as sizes and numbers; never fewer than its capacity needs."""
    if resource.sizes:
        return resource.sizes
    if resource.largest is None:
        return ((resource.capacity, resource.workers),)
    needed = [resource.capacity.get(k, 0.0) / v for k, v in resource.largest.items() if v > 0]
    return ((resource.largest, max(resource.workers, ceil(max(needed, default=0.0) - _ROUNDING))),)


def most_on(request: Vector, nodes: int, resource: Resource) -> int:
    """Tasks of a request from each of `nodes` workers that a resource's live workers run at a time."""
    within = sum(n * min(copies(request, size), _UNBOUNDED) for size, n in sizes_of(resource))
    most = min(within, copies(request, resource.capacity)) // max(1, nodes)
    return most if resource.max_tasks is None else min(most, resource.max_tasks)


def copies_in(request: npt.NDArray[np.float64], amounts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(C, S) how many times each request (C, D) fits each of some amounts (S, D), as `copies` counts."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(request[:, None, :] > 0, amounts[None, :, :] / request[:, None, :], np.inf)
    found: npt.NDArray[np.float64] = np.floor(np.minimum(ratios.min(axis=2, initial=np.inf), _UNBOUNDED) + _ROUNDING)
    return found
