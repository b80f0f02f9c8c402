"""The steps of a document in relation to each other: order, lengths, references."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from airavata_scheduler.platform.domain.axes import Interval
from airavata_scheduler.platform.domain.document_checks import check_document, check_task, read_results
from airavata_scheduler.platform.domain.document_inputs import Inputs, join, read_inputs, substitute
from airavata_scheduler.platform.domain.document_model import ExperimentDocument, Task
from airavata_scheduler.platform.domain.document_problems import Problems, did_you_mean
from airavata_scheduler.platform.domain.encoding import encode_value
from airavata_scheduler.platform.domain.errors import Problem
from airavata_scheduler.platform.domain.sweep import Sweep

RELATIONS = ("foreach", "gather", "depends_on")


@dataclass(frozen=True, slots=True)
class StepReference:
    """An output of another step that a parameter stands for."""

    step: str
    output: str
    mode: Literal["foreach", "gather", "single"]


@dataclass(frozen=True, slots=True)
class Shape:
    """What follows from the whole document for one step."""

    name: str
    n: int
    sweep: Sweep
    references: Mapping[str, StepReference] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    results: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(slots=True)
class _Reader:
    """The document while its steps are read. Steps in ``broken`` have problems; what follows from those is not said."""

    document: ExperimentDocument
    max_tasks: int
    broken: set[str]
    problems: Problems = field(default_factory=Problems)
    inputs: dict[str, Inputs] = field(default_factory=dict)
    sweeps: dict[str, Sweep] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)


def shapes_of(
    document: ExperimentDocument, *, max_tasks: int, broken: Collection[str] = ()
) -> tuple[tuple[Shape, ...], list[Problem]]:
    """The steps in an order in which they can run, and every problem; without problems the shapes are complete."""
    reader = _Reader(document, max_tasks, set(broken))
    known = check_document(document, reader.problems)
    environments: dict[str, dict[str, str]] = {}
    for name, task in document.tasks.items():
        if name not in reader.broken:
            check_task(name, document, reader.problems)
        environments[name] = _environment(name, task, document, known, reader.problems)
        _read_sweep(name, task, known, reader)
        _check_relations(name, task, reader)
    order = _order(reader)
    for name in order:
        _measure(name, reader)
    _check_total(order, reader)
    references = {name: _references(name, reader) for name in order}
    results = read_results(document, reader.broken, reader.problems)
    if reader.problems.found or reader.broken:
        return (), reader.problems.found
    shapes = (
        Shape(name, reader.lengths[name], reader.sweeps[name], references[name], environments[name], results[name])
        for name in order
    )
    return tuple(shapes), []


def _environment(
    name: str, task: Task, document: ExperimentDocument, known: Mapping[str, Any], problems: Problems
) -> dict[str, str]:
    places = {
        "resources.environment": document.resources.environment,
        "environment": document.environment,
        f"tasks.{name}.environment": task.environment,
    }
    found: dict[str, str] = {}
    for place, variables in places.items():
        for key, text in variables.items():
            try:
                found[key] = encode_value(substitute(text, known))
            except ValueError as error:
                problems.catch(f"{place}.{key}", error, text)
    return found


def _read_sweep(name: str, task: Task, known: Mapping[str, Any], reader: _Reader) -> None:
    before = reader.problems.count
    inputs = reader.inputs[name] = read_inputs(name, task, known, reader.problems)
    if reader.problems.count > before:
        reader.broken.add(name)
        return
    if not task.sample and name not in reader.broken:
        for key, axis in inputs.axes.items():
            if isinstance(axis, Interval):
                reader.problems.add(
                    f"tasks.{name}.task_inputs.{key}",
                    f"{key} is given as min and max, from which only a sample can draw",
                    task.task_inputs[key],
                    "add sample: {method: latin_hypercube, n: 100, seed: 1} to the task, or write a linspace",
                )
                reader.broken.add(name)
                return
    try:
        reader.sweeps[name] = join(task, inputs)
    except ValueError as error:
        reader.problems.catch(f"tasks.{name}.{'sample' if task.sample else 'sweep'}", error, task.sample or task.sweep)
        reader.broken.add(name)


def _check_relations(name: str, task: Task, reader: _Reader) -> None:
    tasks = reader.document.tasks
    seen: set[str] = set()
    for relation in RELATIONS:
        for other in getattr(task, relation):
            path = f"tasks.{name}.{relation}"
            if other not in tasks and other not in reader.broken:
                reader.problems.add(
                    path, f"there is no step {other!r}", other, did_you_mean(other, set(tasks) - {name})
                )
                reader.broken.add(name)
            elif other in seen:
                reader.problems.add(path, f"the step {other!r} is named twice", other, "name it once")
            seen.add(other)


def _needs(task: Task) -> tuple[str, ...]:
    return (*task.foreach, *task.gather, *task.depends_on)


def _order(reader: _Reader) -> list[str]:
    """Steps after those they need, otherwise in the order of the document. A cycle is a problem."""
    tasks = reader.document.tasks
    waiting = {name: {other for other in _needs(task) if other in tasks} for name, task in tasks.items()}
    order: list[str] = []
    while waiting:
        ready = [name for name, needs in waiting.items() if not needs & waiting.keys()]
        if not ready:
            _report_cycle(waiting, reader)
            break
        order.append(ready[0])
        del waiting[ready[0]]
    return order


def _report_cycle(waiting: Mapping[str, set[str]], reader: _Reader) -> None:
    name, way = next(iter(waiting)), []
    while name not in way:
        way.append(name)
        name = next(other for other in reader.document.tasks if other in waiting[name] and other in waiting)
    cycle = [*way[way.index(name) :], name]
    relation = next(r for r in RELATIONS if cycle[1] in getattr(reader.document.tasks[cycle[0]], r))
    reader.problems.add(
        f"tasks.{cycle[0]}.{relation}",
        f"the steps wait for each other in a cycle: {' -> '.join(cycle)}",
        cycle[1],
        "take one of these steps out of foreach, gather or depends_on",
    )
    reader.broken.update(waiting)


def _measure(name: str, reader: _Reader) -> None:
    """Find out how many tasks a step has, and whether that is possible."""
    task = reader.document.tasks[name]
    followed = [other for other in task.foreach if other != name]
    if name in reader.broken or any(other not in reader.lengths for other in followed):
        return
    lengths = {other: reader.lengths[other] for other in followed}
    if len(set(lengths.values())) > 1:
        reader.problems.add(
            f"tasks.{name}.foreach",
            f"the steps have different lengths: {', '.join(f'{k} has {v}' for k, v in lengths.items())}",
            list(followed),
            "follow steps of one length; use depends_on for a step with a single task, gather for all of a step",
        )
        return
    own = reader.sweeps[name].n
    n = own * (next(iter(lengths.values())) if lengths else 1)
    if n > reader.max_tasks:
        axes = reader.inputs[name].axes
        parts = ", ".join(f"{key} has {axis.n}" for key, axis in axes.items() if axis.n > 1)
        parts = ", ".join(filter(None, [parts, *(f"{other} has {length}" for other, length in lengths.items())]))
        reader.problems.add(
            f"tasks.{name}.task_inputs",
            f"the step would have {n} tasks ({parts}); the most is {reader.max_tasks}",
            n,
            "use fewer values, or draw some of the combinations with sample",
        )
        return
    reader.lengths[name] = n


def _check_total(order: Iterable[str], reader: _Reader) -> None:
    counts = [reader.lengths[name] for name in order if name in reader.lengths]
    if sum(counts) > reader.max_tasks:
        reader.problems.add(
            "tasks",
            f"the experiment would have {sum(counts)} tasks; the most is {reader.max_tasks}",
            sum(counts),
            "use fewer values, or split it into several experiments",
        )


def _references(name: str, reader: _Reader) -> dict[str, StepReference]:
    task = reader.document.tasks[name]
    found: dict[str, StepReference] = {}
    for key, origin in reader.inputs[name].origins.items():
        path, text = f"tasks.{name}.task_inputs.{key}", task.task_inputs[key]
        source = reader.document.tasks.get(origin.step)
        if origin.step in reader.broken or name in reader.broken:
            continue
        if source is None:
            reader.problems.add(
                path,
                f"there is no step {origin.step!r}",
                text,
                did_you_mean(origin.step, set(reader.document.tasks) - {name}),
            )
        elif origin.output not in source.task_outputs:
            reader.problems.add(
                path,
                f"the step {origin.step!r} has no output {origin.output!r}",
                text,
                did_you_mean(origin.output, source.task_outputs)
                if source.task_outputs
                else "add it to its task_outputs",
            )
        elif origin.step not in _needs(task):
            reader.problems.add(
                path,
                f"the step {name!r} does not follow the step {origin.step!r}, whose output it names",
                text,
                f"add foreach: [{origin.step}] (index by index) or gather: [{origin.step}] (all of it)",
            )
        elif origin.step in task.depends_on and reader.lengths.get(origin.step, 1) != 1:
            reader.problems.add(
                path,
                f"the step {origin.step!r} has {reader.lengths[origin.step]} tasks, so its output is not one file",
                text,
                "use foreach (index by index) or gather (a manifest of all) instead of depends_on",
            )
        else:
            mode: Literal["foreach", "gather", "single"] = "single"
            mode = "foreach" if origin.step in task.foreach else "gather" if origin.step in task.gather else mode
            found[key] = StepReference(origin.step, origin.output, mode)
    return found
