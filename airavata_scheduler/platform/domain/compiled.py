"""What a compiled experiment is: steps as ranges of tasks, all plain JSON. No third-party packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from airavata_scheduler.platform.domain.failures import Cause, RetryPolicy
from airavata_scheduler.platform.domain.messages import Program
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.sweep import Sweep

Mode = Literal["foreach", "gather", "single"]


@dataclass(frozen=True, slots=True)
class Reference:
    """A parameter that is an output of an earlier step.

    ``foreach``: the path of the output of the task with the corresponding index. ``gather``: the path of a manifest,
    one path a line in index order. ``single``: the path of the output of the only task of the step.
    """

    step: int  #: position
    output: str
    mode: Mode


@dataclass(frozen=True, slots=True)
class ProgramTemplate:
    """What of a :class:`.messages.Program` is known before anything is stored."""

    request: Capacity = field(default_factory=Capacity)
    command: tuple[str, ...] = ()
    script: str = ""
    python: str = ""
    python_path: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    results: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    timeout_s: float | None = None
    grace_s: float = 5.0
    max_output_bytes: int = 10 * 1024 * 1024

    def program(
        self, step_id: int, experiment: str, step: str, output_prefix: str, storage: str = "default"
    ) -> Program:
        """The program as workers get it."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Program(
            step_id=step_id, experiment=experiment, step=step, output_prefix=output_prefix, storage=storage, **fields
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; ``from_json`` gives an equal template."""
        return {
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "request": self.request.to_json(),
            "command": list(self.command),
            "python_path": list(self.python_path),
            "environment": dict(self.environment),
            "outputs": dict(self.outputs),
            "results": {column: list(source) for column, source in self.results.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ProgramTemplate:
        """The template that ``to_json`` wrote."""
        return cls(
            **{
                **value,
                "request": Capacity.from_json(value["request"]),
                "command": tuple(value["command"]),
                "python_path": tuple(value["python_path"]),
                "results": {column: (source, pointer) for column, (source, pointer) in value["results"].items()},
            }
        )


@dataclass(frozen=True, slots=True)
class CompiledStep:
    """A range of ``n`` tasks. Other steps are named by their position in the experiment, always a lower one.

    Task ``index`` has the parameters ``sweep.decode(index % fan_out)`` and, if the step has ``foreach``, follows the
    task ``index // fan_out`` of each of those steps. ``n`` is ``fan_out`` times the length of the ``foreach`` steps.
    """

    position: int
    name: str
    n: int
    sweep: Sweep
    foreach: tuple[int, ...]
    fan_out: int
    gather: tuple[int, ...]
    after: tuple[int, ...]
    references: Mapping[str, Reference]
    program: ProgramTemplate
    retry: RetryPolicy
    priority: int
    time_s: float | None  #: How long a task is expected to run.
    allow: tuple[str, ...] = ()  #: Names of resources; empty: all.
    deny: tuple[str, ...] = ()
    #: Where in the document each part of the request was written: "cpu", "memory", "gpu", "disk", "named" -> path.
    origins: Mapping[str, str] = field(default_factory=dict)

    def parameters(self, index: int) -> dict[str, Any]:
        """The swept parameters of task ``index``, without references."""
        return self.sweep.decode(index % self.fan_out)

    def may_use(self, resource: str) -> bool:
        """Whether ``allow`` and ``deny`` permit a resource of this name."""
        return resource not in self.deny and (not self.allow or resource in self.allow)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; ``from_json`` gives an equal step."""
        return {
            **{name: getattr(self, name) for name in ("position", "name", "n", "fan_out", "priority", "time_s")},
            **{name: list(getattr(self, name)) for name in ("foreach", "gather", "after", "allow", "deny")},
            "sweep": self.sweep.to_json(),
            "references": {name: asdict(reference) for name, reference in self.references.items()},
            "program": self.program.to_json(),
            "retry": {**asdict(self.retry), "on": [cause.value for cause in self.retry.on]},
            "origins": dict(self.origins),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CompiledStep:
        """The step that ``to_json`` wrote."""
        lists = {name: tuple(value[name]) for name in ("foreach", "gather", "after", "allow", "deny")}
        retry = {**value["retry"], "on": tuple(Cause(cause) for cause in value["retry"]["on"])}
        return cls(
            **{
                **value,
                **lists,
                "sweep": Sweep.from_json(value["sweep"]),
                "references": {name: Reference(**reference) for name, reference in value["references"].items()},
                "program": ProgramTemplate.from_json(value["program"]),
                "retry": RetryPolicy(**retry),
            }
        )


@dataclass(frozen=True, slots=True)
class CompiledExperiment:
    """An experiment that can be stored and run."""

    name: str
    description: str
    tags: tuple[str, ...]
    priority: int
    deadline: float | None  #: Seconds since the epoch.
    budget: float | None
    objective: Mapping[str, float]  #: Weights of time, cost, deadline and locality; their sum is 1.
    allow: tuple[str, ...]
    deny: tuple[str, ...]
    steps: tuple[CompiledStep, ...]  #: In topological order; ``steps[i].position == i``.
    hard_deadline: bool = False  #: Nothing may start that would end after the deadline.

    @property
    def n_tasks(self) -> int:
        """The number of tasks of all steps."""
        return sum(step.n for step in self.steps)
