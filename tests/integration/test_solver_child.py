"""The planner in a child process: what happens when it hangs, dies, or is given nonsense."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from airavata_scheduler.adapters.memory.clock import VirtualClock
from airavata_scheduler.adapters.memory.database import MemoryDatabase
from airavata_scheduler.adapters.memory.experiment_store import MemoryExperimentStore
from airavata_scheduler.adapters.memory.leases import MemoryLeases
from airavata_scheduler.adapters.memory.storage import MemoryStorage
from airavata_scheduler.adapters.memory.task_store import MemoryTaskStore
from airavata_scheduler.adapters.memory.worker_store import MemoryWorkerStore
from airavata_scheduler.adapters.solver.child import ChildSolver
from airavata_scheduler.platform.domain.compile import compile_document
from airavata_scheduler.platform.domain.document import parse_document
from airavata_scheduler.platform.domain.messages import Hello
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.ports.repository import NewExperiment
from airavata_scheduler.platform.services.scheduler import TaskSchedulerService
from airavata_scheduler.scheduler_core import (
    Estimate,
    Experiment,
    Limits,
    Plan,
    Resource,
    Snapshot,
    SnapshotError,
    TaskGroup,
)

LIMITS = Limits(time_s=0.2)
SNAPSHOT = Snapshot(
    groups=(TaskGroup(key="1", experiment="e", request={"cpu": 1.0}, runtime=Estimate(mean_s=60.0), n_ready=40),),
    resources=(
        Resource(name="slow", capacity={"cpu": 2.0}, largest={"cpu": 2.0}),
        Resource(name="fast", capacity={"cpu": 2.0}, largest={"cpu": 2.0}, speed=4.0, unit_prices={"cpu": 5.0}),
    ),
    experiments=(Experiment(key="e"),),
)
#: The real child, which hangs for ever in every solve for which the file in its argument exists.
HANGING = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from airavata_scheduler.adapters.solver import process
    def plan(*arguments):
        while Path(sys.argv[1]).exists():
            time.sleep(0.01)
        return process.plan(*arguments)
    process._KINDS = {**process._KINDS, "plan": plan}
    process.serve(sys.stdin.buffer, sys.stdout.buffer)
""")


@pytest.fixture
async def solver() -> AsyncIterator[ChildSolver]:
    made = ChildSolver()
    yield made
    await made.close()


@pytest.fixture
async def hanging(tmp_path: Path) -> AsyncIterator[tuple[ChildSolver, Path]]:
    flag = tmp_path / "hang"
    made = ChildSolver((sys.executable, "-c", HANGING, str(flag)))
    yield made, flag
    await made.close()


async def test_the_child_stays_for_the_next_solve(solver: ChildSolver) -> None:
    first = await solver.solve(SNAPSHOT, 0.0, LIMITS)
    assert isinstance(first, Plan)
    assert solver._child is not None
    pid = solver._child.pid
    again = await solver.solve(SNAPSHOT, 0.0, LIMITS)
    assert again is not None
    assert (again.shares, solver._child.pid) == (first.shares, pid)


async def test_an_overrun_is_killed_and_the_next_solve_works(hanging: tuple[ChildSolver, Path]) -> None:
    solver, flag = hanging
    assert await solver.solve(SNAPSHOT, 0.0, LIMITS) is not None
    assert solver._child is not None
    stuck = solver._child
    flag.touch()
    assert await solver.solve(SNAPSHOT, 0.0, LIMITS) is None
    assert stuck.returncode == -signal.SIGKILL
    flag.unlink()
    assert await solver.solve(SNAPSHOT, 0.0, LIMITS) is not None


async def test_a_child_killed_by_a_signal_is_replaced(hanging: tuple[ChildSolver, Path]) -> None:
    solver, flag = hanging
    assert await solver.solve(SNAPSHOT, 0.0, LIMITS) is not None
    assert solver._child is not None
    flag.touch()
    solving = asyncio.create_task(solver.solve(SNAPSHOT, 0.0, replace(LIMITS, time_s=60.0)))
    await asyncio.sleep(0)
    os.kill(solver._child.pid, signal.SIGSEGV)
    assert await solving is None
    flag.unlink()
    assert await solver.solve(SNAPSHOT, 0.0, LIMITS) is not None


async def test_an_error_in_the_snapshot_names_the_field_and_costs_no_child(solver: ChildSolver) -> None:
    assert await solver.solve(SNAPSHOT, 0.0, LIMITS) is not None
    child = solver._child
    broken = replace(SNAPSHOT, resources=(replace(SNAPSHOT.resources[0], speed=-1.0),))
    with pytest.raises(SnapshotError, match=r"resources\[0\].speed is -1.0: give a finite number above zero"):
        await solver.solve(broken, 0.0, LIMITS)
    assert solver._child is child
    assert await solver.solve(SNAPSHOT, 0.0, LIMITS) is not None


async def test_a_frontier_comes_from_the_child_too(solver: ChildSolver) -> None:
    points = await solver.frontier(SNAPSHOT, 0.0, "e", 8, LIMITS)
    assert points is not None
    assert len(points) >= 8
    assert [point.number for point in points] == list(range(1, len(points) + 1))
    assert all(a.finish_s < b.finish_s and a.cost > b.cost for a, b in pairwise(points))


async def test_claims_are_answered_while_a_solve_hangs(hanging: tuple[ChildSolver, Path]) -> None:
    solver, flag = hanging
    clock = VirtualClock(asyncio.get_running_loop(), 1e9)
    database = MemoryDatabase(clock)
    tasks, experiments = MemoryTaskStore(database), MemoryExperimentStore(database)
    worker = await MemoryWorkerStore(database).register_worker(
        Hello("w", "local", "host", "node", 1, "0", Capacity(cpu=4)), 1e6
    )
    fence = await MemoryLeases(database).take("task-scheduler", "test", 1e6)
    service = TaskSchedulerService(tasks, fence, solver, MemoryStorage(), clock)
    document = {"name": "d", "tasks": {"t": {"command": ["true"], "task_inputs": {"X": "1..100"}}}}
    await experiments.insert(
        NewExperiment("e1", "admin", "default", compile_document(parse_document(document, now=0.0)), document)
    )
    await service.plan()
    flag.touch()
    await experiments.insert(
        NewExperiment("e2", "admin", "default", compile_document(parse_document(document, now=0.0)), document)
    )
    planning = asyncio.create_task(service.plan())
    while not solver._turn.locked():  # noqa: ASYNC110 - the lock has no event for it
        await asyncio.sleep(0)
    batch = await service.claim(worker, Capacity(cpu=4), 4, 0.0)
    assert len(batch.launches) == 4
    assert not planning.done(), "the claim was answered from the plan in force"
    assert (await planning)["trouble"].startswith("the latest solve was given up")
