"""What a worker and the platform say to each other. Standard library only; the same set through Ray and gRPC.

A batch names each program once and each task in a few words, so that a claim of a thousand tasks of one step is
small. All types are plain data and picklable. What there is one of for each task is a named tuple: made and sent at a
fraction of what a dataclass costs, and `packed.py` sends it at a fraction of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from airavata_scheduler.platform.domain.failures import Cause
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.states import TaskState


class ChannelUnavailableError(Exception):
    """The platform did not answer. Nobody knows whether the call was carried out: repeat it, with back-off."""


class WorkerGoneError(Exception):
    """The platform does not know this worker id any more: kill all tasks and register anew."""


@dataclass(frozen=True, slots=True)
class Program:
    """What every task of one step has in common. Exactly one of command, script and python is set."""

    step_id: int
    experiment: str
    step: str
    request: Capacity
    command: tuple[str, ...] = ()
    script: str = ""  #: Text with its own `#!` line; without one it is run by /bin/sh.
    python: str = ""  #: `module:function`, called with the parameters as keyword arguments.
    python_path: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)  #: name -> path relative to the working directory
    #: results column -> (output name or "stdout" or "return", JSON pointer into it)
    results: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    timeout_s: float | None = None
    grace_s: float = 5.0  #: between TERM and KILL
    max_output_bytes: int = 10 * 1024 * 1024  #: of standard output, and the same of standard error
    output_prefix: str = ""  #: key on the storage resource under which `<index>/<attempt>/` is made
    storage: str = "default"  #: name of the storage resource


class Launch(NamedTuple):
    """One attempt to run. ``parameters`` include references that were resolved to paths."""

    step_id: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of these
    attempt: int
    parameters: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Batch:
    """Answer to a claim: launches and the programs they name."""

    programs: Mapping[int, Program] = field(default_factory=dict)
    launches: tuple[Launch, ...] = ()


@dataclass(frozen=True, slots=True)
class StorageLocation:
    """Where a worker finds a storage resource."""

    name: str
    kind: str  #: "posix"
    root: str


@dataclass(frozen=True, slots=True)
class Hello:
    """A worker introduces itself."""

    name: str  #: stable for the place, e.g. `exec.<resource>.<node>`
    resource: str
    host: str
    node_id: str
    pid: int
    version: str
    capacity: Capacity
    facts: Mapping[str, Any] = field(default_factory=dict)  #: sandbox features, Python version, …


@dataclass(frozen=True, slots=True)
class Welcome:
    """The platform's answer. ``worker_id`` is new with every registration and serves as the fencing token."""

    worker_id: int
    lease_s: float
    heartbeat_s: float
    storages: tuple[StorageLocation, ...]


class Extent(NamedTuple):
    """A piece of a segment file that holds the output of one attempt."""

    segment: str  #: key on the storage resource
    offset: int
    length: int
    truncated: bool = False


class Output(NamedTuple):
    """A declared output as it was published."""

    name: str
    key: str
    size_bytes: int
    sha256: str


class Report(NamedTuple):
    """What became of one attempt. ``state`` is RUNNING, COLLECTING, SUCCEEDED, FAILED or CANCELED."""

    step_id: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of these
    attempt: int
    state: TaskState
    cause: Cause | None = None
    message: str = ""  #: for people: what happened, which value, what to do
    exit_code: int | None = None
    signal: int | None = None
    started_at: float = 0.0  #: seconds since the epoch, the worker's clock
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_memory_bytes: int = 0
    gpus: tuple[int, ...] = ()
    stdout: Extent | None = None
    stderr: Extent | None = None
    outputs: tuple[Output, ...] = ()
    results: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Directives:
    """What the platform wants a worker to do; the answer to a heartbeat."""

    lease_s: float
    cancel: tuple[tuple[int, int, int], ...] = ()  #: (step id, index, attempt)
    cancel_steps: tuple[int, ...] = ()  #: everything of these steps
    recall_steps: tuple[int, ...] = ()  #: give back what is held of these steps and has not started
    drain: bool = False  #: claim nothing more, stop when empty
    stop: bool = False  #: the lease is gone: kill everything and register anew
