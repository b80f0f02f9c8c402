"""Messages of the platform turned into the plain values that spawners understand, and back."""

from __future__ import annotations

import os
from typing import Any

from airavata_scheduler.platform.domain.failures import Cause
from airavata_scheduler.platform.domain.messages import Extent, Launch, Output, Program, Report
from airavata_scheduler.platform.domain.states import TaskState

Identity = tuple[int, int, int]

_STATES = tuple(TaskState)

#: Order of the fields of an outcome, the tuple by which a spawner tells how an attempt ended.
OUTCOME_FIELDS = (
    "state cause message exit_code signal started_at wall_s cpu_s peak_memory_bytes stdout stderr outputs results"
)


def program_to_wire(program: Program, fsync: bool) -> dict[str, Any]:
    """A program as a dictionary of plain values."""
    request = program.request
    return {
        "step_id": program.step_id,
        "experiment": program.experiment,
        "step": program.step,
        "cpu": request.cpu,
        "memory_bytes": request.memory_bytes,
        "command": list(program.command),
        "script": program.script,
        "python": program.python,
        "python_path": list(program.python_path),
        "environment": dict(program.environment),
        "outputs": dict(program.outputs),
        "results": {column: tuple(where) for column, where in program.results.items()},
        "timeout_s": program.timeout_s,
        "grace_s": program.grace_s,
        "max_output_bytes": program.max_output_bytes,
        "output_prefix": program.output_prefix,
        "storage": program.storage,
        "fsync": fsync,
    }


def launch_to_wire(launch: Launch) -> tuple[int, int, int, dict[str, Any]]:
    """An attempt as a tuple of plain values."""
    return (*launch[:3], _plain(launch.parameters))


def report_from_wire(identity: Identity, outcome: tuple[Any, ...], gpus: tuple[int, ...]) -> Report:
    """The report of an ended attempt from a spawner's outcome (fields as in OUTCOME_FIELDS)."""
    state, cause, message, code, signal, started_at, wall_s, cpu_s, peak, stdout, stderr, outputs, results = outcome
    return Report(
        *identity,
        _STATES[state],
        Cause(cause) if cause else None,
        message,
        code,
        signal,
        started_at,
        wall_s,
        cpu_s,
        peak,
        gpus,
        Extent(*stdout) if stdout else None,
        Extent(*stderr) if stderr else None,
        tuple(Output(*output) for output in outputs) if outputs else (),
        results,
    )


def running_report(identity: Identity, started_at: float, stdout: str, stderr: str, starts: tuple[int, int]) -> Report:
    """The report of an attempt that goes on, with the places where its output can be followed."""
    return Report(
        *identity,
        TaskState.RUNNING,
        started_at=started_at,
        stdout=Extent(stdout, starts[0], 0),
        stderr=Extent(stderr, starts[1], 0),
    )


def grown(root: str, piece: Extent, cap_bytes: int) -> Extent:
    """The piece of a task that still writes, with what it has written so far."""
    size = os.stat(os.path.join(root, piece.segment)).st_size
    return piece._replace(length=min(max(0, size - piece.offset), cap_bytes))


def failed_report(identity: Identity, cause: Cause, message: str, gpus: tuple[int, ...] = ()) -> Report:
    """The report of an attempt that failed outside the program's own doing, or was canceled before it ran."""
    state = TaskState.CANCELED if cause is Cause.CANCELED else TaskState.FAILED
    return Report(*identity, state, cause, message, gpus=gpus)


def _plain(value: Any) -> Any:
    """Mappings and sequences of any type as dictionaries and lists, which is what marshal takes."""
    if type(value) in (str, int, float, bool, type(None)):
        return value
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, str | int | float):
        return value if isinstance(value, str) else float(value) if isinstance(value, float) else int(value)
    return [_plain(item) for item in value]
