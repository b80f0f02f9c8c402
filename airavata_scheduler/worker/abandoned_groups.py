"""Control groups of workers that are gone: who is killed cannot remove his own.

They are looked for in the whole of each hierarchy, because a worker makes them below the group it was started in.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from airavata_scheduler.worker.cgroups import MOUNTS, PREFIX, SPAWNER, children, mount_points, remove, rmdir


def remove_abandoned(mine: str, mounts: str = MOUNTS) -> None:
    """Remove the groups of all workers that were killed; ``mine`` is the name of the one that asks.

    A worker lives as long as one of its spawners, and the kernel refuses to remove a group that holds one. A worker
    without groups of spawners has not started any yet, or may not make them: nothing tells whether it lives.
    """
    for worker, groups in _groups(mounts).items():
        spawners = [
            os.path.join(group, name) for group in groups for name in children(group) if name.startswith(SPAWNER)
        ]
        if worker != mine and spawners and all(rmdir(group) for group in spawners):
            for group in groups:
                remove(group)


def remove_groups(workers: Collection[str], mounts: str = MOUNTS) -> None:
    """Remove the groups of workers that have ended."""
    for worker, groups in _groups(mounts).items():
        if worker in workers:
            for group in groups:
                remove(group)


def _groups(mounts: str) -> dict[str, list[str]]:
    """Name of a worker -> its groups in all hierarchies."""
    found: dict[str, list[str]] = {}
    for root in mount_points(mounts):
        for path, names, _ in os.walk(root):
            for name in [name for name in names if name.startswith(PREFIX)]:
                names.remove(name)  # there is nothing to look for inside
                found.setdefault(name.removeprefix(PREFIX), []).append(os.path.join(path, name))
    return found
