"""The solver of the planner in this process, and its limits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airavata_scheduler.adapters.memory.solver import InProcessSolver
from airavata_scheduler.scheduler_core import (
    Estimate,
    Experiment,
    Limits,
    Project,
    Resource,
    Snapshot,
    SnapshotError,
    TaskGroup,
)

SNAPSHOT = Snapshot(
    groups=(TaskGroup(key="1", experiment="e", request={"cpu": 1.0}, runtime=Estimate(mean_s=1.0), n_ready=5),),
    resources=(Resource(name="west", capacity={"cpu": 2.0}, largest={"cpu": 2.0}, workers=1),),
    experiments=(Experiment(key="e", project="p"),),
    projects=(Project(key="p"),),
)


async def test_a_plan_fills_what_is_there() -> None:
    found = await InProcessSolver().solve(SNAPSHOT, 0.0, Limits())
    assert found is not None
    (share,) = found.shares
    assert (share.group, share.resource, share.places) == ("1", "west", 2)


async def test_limits_may_be_changed_on_the_way() -> None:
    found = await InProcessSolver(lambda limits: replace(limits, solver="greedy")).solve(SNAPSHOT, 0.0, Limits())
    assert found is not None
    assert found.solver.startswith("greedy")


async def test_a_fault_of_the_snapshot_is_an_error() -> None:
    broken = replace(SNAPSHOT, experiments=())
    with pytest.raises(SnapshotError):
        await InProcessSolver().solve(broken, 0.0, Limits())
