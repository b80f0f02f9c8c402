"""What tasks read of other steps' outputs: from which steps, and how many bytes. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from airavata_scheduler.platform.services.experience import Experience
from airavata_scheduler.platform.services.step_cache import KnownStep


def read_from(known: Mapping[int, KnownStep]) -> set[int]:
    """Ids of the steps whose outputs these steps read."""
    return {step.upstream(reference.step) for step in known.values() for reference in step.step.references.values()}


def bytes_read(known: Mapping[int, KnownStep], seen: Experience) -> dict[int, float]:
    """Step id -> what one of its tasks reads, in bytes; without steps that read nothing, or what nobody saw yet."""
    found = {step_id: _bytes_read(step, known, seen) for step_id, step in known.items()}
    return {step_id: size for step_id, size in found.items() if size}


def _bytes_read(step: KnownStep, known: Mapping[int, KnownStep], seen: Experience) -> float:
    sizes: list[float] = []
    for reference in step.step.references.values():
        upstream = step.upstream(reference.step)
        one = seen.output_bytes(upstream, reference.output)
        if one is None:
            return 0.0
        sizes.append(one * (known[upstream].step.n if reference.mode == "gather" and upstream in known else 1))
    return sum(sizes)
