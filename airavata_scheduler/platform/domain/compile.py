"""From a checked document to what is stored and run, and whether any resource could run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from airavata_scheduler.platform.domain.compiled import (
    CompiledExperiment,
    CompiledStep,
    ProgramTemplate,
    Reference,
)
from airavata_scheduler.platform.domain.document_model import ExperimentDocument, Objective, Retry, Task
from airavata_scheduler.platform.domain.document_steps import Shape, shapes_of
from airavata_scheduler.platform.domain.encoding import encode_value
from airavata_scheduler.platform.domain.errors import InvalidDocumentError, Problem
from airavata_scheduler.platform.domain.failures import RetryPolicy
from airavata_scheduler.platform.domain.request import Capacity

__all__ = [
    "CompiledExperiment",
    "CompiledStep",
    "ProgramTemplate",
    "Reference",
    "ResourceOffer",
    "check_fits",
    "compile_document",
    "encode_value",
]

_GB = 10**9


def compile_document(document: ExperimentDocument, *, max_tasks: int = 10_000_000) -> CompiledExperiment:
    """The experiment as steps; the same document gives the same steps. Raises InvalidDocumentError."""
    shapes, problems = shapes_of(document, max_tasks=max_tasks)
    if problems:
        raise InvalidDocumentError(problems)
    positions = {shape.name: position for position, shape in enumerate(shapes)}
    return CompiledExperiment(
        name=document.name,
        description=document.description,
        tags=document.tags,
        priority=document.priority,
        deadline=document.deadline,
        hard_deadline=document.hard_deadline,
        budget=document.budget,
        objective=_weights(document.objective),
        allow=document.allow,
        deny=document.deny,
        steps=tuple(_step(document, shape, positions) for shape in shapes),
    )


def _step(document: ExperimentDocument, shape: Shape, positions: Mapping[str, int]) -> CompiledStep:
    task = document.tasks[shape.name]
    request, origins = _request(document, shape.name)
    time_s = task.resources.time or document.resources.compute.time
    return CompiledStep(
        position=positions[shape.name],
        name=shape.name,
        n=shape.n,
        sweep=shape.sweep,
        foreach=tuple(positions[name] for name in task.foreach),
        fan_out=shape.sweep.n,
        gather=tuple(positions[name] for name in task.gather),
        after=tuple(positions[name] for name in task.depends_on),
        references={
            name: Reference(positions[found.step], found.output, found.mode) for name, found in shape.references.items()
        },
        program=_program(document, task, shape, request),
        retry=_retry(document.retry if task.retry is None else task.retry),
        priority=document.priority if task.priority is None else task.priority,
        time_s=time_s,
        allow=document.allow if task.allow is None else task.allow,
        deny=document.deny if task.deny is None else task.deny,
        origins=origins,
    )


def _program(document: ExperimentDocument, task: Task, shape: Shape, request: Capacity) -> ProgramTemplate:
    own = {*task.task_inputs, *task.task_outputs, *shape.sweep.names}
    constants = {name: encode_value(p.default) for name, p in document.parameters.items() if name not in own}
    return ProgramTemplate(
        request=request,
        command=task.command or (),
        script=document.scripts[task.script] if task.script else "",
        python=task.python or "",
        python_path=task.python_path,
        environment={**constants, **shape.environment},
        outputs=dict(task.task_outputs),
        results=dict(shape.results),
        timeout_s=task.timeout or document.timeout,
        grace_s=task.grace or document.grace,
        max_output_bytes=document.max_output if task.max_output is None else task.max_output,
    )


def _request(document: ExperimentDocument, step: str) -> tuple[Capacity, dict[str, str]]:
    """What one task asks for, and the paths at which each part was written."""
    own, general = document.tasks[step].resources, document.resources.compute
    places = {f"tasks.{step}.resources": own, "resources.compute": general}

    def first(*names: str) -> tuple[float, str]:
        for place, compute in places.items():
            for name in names:
                value = getattr(compute, name)
                if value is not None:
                    return float(value) * (_GB if name.endswith("_gb") else 1), f"{place}.{name}"
        return 0.0, f"resources.compute.{names[0]}"

    (cpu, cpu_at), (memory, memory_at) = first("cpu"), first("memory", "ram_gb")
    (gpu, gpu_at), (disk, disk_at) = first("gpu"), first("disk_gb")
    named_at = {f"named.{k}": f"{place}.named.{k}" for place in reversed(places) for k in places[place].named}
    request = Capacity(
        cpu=cpu or 1.0,
        memory_bytes=round(memory),
        gpu=gpu,
        disk_bytes=round(disk),
        named={**general.named, **own.named},
    )
    return request, {"cpu": cpu_at, "memory": memory_at, "gpu": gpu_at, "disk": disk_at, **named_at}


def _retry(retry: Retry) -> RetryPolicy:
    return RetryPolicy(retry.max_attempts, tuple(retry.on), retry.backoff_s, retry.factor, retry.max_backoff_s)


def _weights(objective: Objective) -> dict[str, float]:
    weights = {name: float(getattr(objective, name)) for name in ("time", "cost", "deadline", "locality")}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


@dataclass(frozen=True, slots=True)
class ResourceOffer:
    """A resource and the most that one place on it has of each: what a task could have, if nothing else ran there."""

    name: str
    capacity: Capacity
    labels: Mapping[str, str] = field(default_factory=dict)


def check_fits(compiled: CompiledExperiment, resources: Sequence[ResourceOffer]) -> list[Problem]:
    """A problem for each step that no resource could ever run, saying what is lacking on each. Empty: all is well."""
    problems: dict[tuple[str, str], Problem] = {}
    for step in compiled.steps:
        for problem in _misfits(step, resources):
            problems.setdefault((problem.path, problem.message), problem)
    return list(problems.values())


def _misfits(step: CompiledStep, resources: Sequence[ResourceOffer]) -> list[Problem]:
    permitted = [offer for offer in resources if step.may_use(offer.name)]
    if not permitted:
        names = ", ".join(offer.name for offer in resources) or "none"
        return [
            Problem(
                f"tasks.{step.name}",
                f"allow and deny leave no resource for the step {step.name!r}",
                f"allow={list(step.allow)} deny={list(step.deny)}",
                f"name a registered resource; there are: {names}",
            )
        ]
    lacks = {offer.name: _lacking(step.program.request, offer.capacity) for offer in permitted}
    if any(not lack for lack in lacks.values()):
        return []
    kinds = list(dict.fromkeys(kind for lack in lacks.values() for kind in lack))
    return [_misfit(step, kind, {name: lack[kind] for name, lack in lacks.items() if kind in lack}) for kind in kinds]


def _misfit(step: CompiledStep, kind: str, lack: Mapping[str, tuple[float, float]]) -> Problem:
    asked = next(iter(lack.values()))[0]
    having = "; ".join(f"{name} has {_amount(kind, have)}" for name, (_, have) in lack.items())
    return Problem(
        path=step.origins.get(kind, f"tasks.{step.name}.resources"),
        message=f"no resource can run the step {step.name!r}: it asks for {_amount(kind, asked)}, {having}",
        value=_amount(kind, asked),
        remedy="ask for less, or add a resource that has as much",
    )


def _lacking(request: Capacity, capacity: Capacity) -> dict[str, tuple[float, float]]:
    """Kind -> (asked for, there), for each thing of which there is too little."""
    amounts: dict[str, tuple[float, float]] = {
        "cpu": (request.cpu, capacity.cpu),
        "memory": (request.memory_bytes, capacity.memory_bytes),
        "gpu": (request.gpu, capacity.gpu),
        "disk": (request.disk_bytes, capacity.disk_bytes),
        **{f"named.{name}": (want, capacity.named.get(name, 0.0)) for name, want in request.named.items()},
    }
    return {kind: pair for kind, pair in amounts.items() if pair[0] > pair[1] + 1e-9}


def _amount(kind: str, amount: float) -> str:
    if kind in {"memory", "disk"}:
        return f"{amount / _GB:.12g} GB of {kind}"
    if kind.startswith("named."):
        return f"{amount:g} {kind.removeprefix('named.')} (a named resource)"
    return f"{amount:g} {kind}"
