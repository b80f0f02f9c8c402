"""Checks within one task, or within one part of the document, that span several fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from pathlib import PurePosixPath
from typing import Any

from airavata_scheduler.platform.domain.document_model import STEP_NAME, Compute, ExperimentDocument, Task
from airavata_scheduler.platform.domain.document_problems import Problems, UnfitError, did_you_mean

PROGRAMS = ("script", "command", "python")
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "fish", "env", "awk", "perl"})
_UNSUPPORTED = {
    "conda": "this version cannot make conda environments",
    "pip": "this version cannot install pip packages",
    "storage": "this version cannot stage files from a storage resource",
}
_INSTEAD = {
    "conda": "leave it out, and name the interpreter of an environment that exists in command or PATH",
    "pip": "leave it out, and name the interpreter of an environment that exists in command or PATH",
    "storage": "leave it out, and give the program the paths of its files as parameters",
}


def check_document(document: ExperimentDocument, problems: Problems) -> dict[str, Any]:
    """Check what is not about one task. Returns the values of the parameters; None: not usable."""
    known: dict[str, Any] = {}
    for name, parameter in document.parameters.items():
        try:
            known[name] = coerce(parameter.type, parameter.default)
        except ValueError as error:
            problems.catch(f"parameters.{name}", error, parameter.default)
            known[name] = None
    for name, text in document.scripts.items():
        if not re.fullmatch(STEP_NAME, name):
            problems.add(f"scripts.{name}", f"{name!r} is not a name of a script", name, "use letters, digits, _ and -")
        if not text.strip():
            problems.add(f"scripts.{name}", f"the script {name!r} is empty", text, "write the program, below `name: |`")
    for name, what in _UNSUPPORTED.items():
        value = getattr(document.resources, name)
        if value:
            problems.add(f"resources.{name}", what, value, _INSTEAD[name])
    _check_compute("resources.compute", document.resources.compute, problems)
    _check_permitted("", document.allow, document.deny, problems)
    if not any(
        (document.objective.time, document.objective.cost, document.objective.deadline, document.objective.locality)
    ):
        problems.add("objective", "all weights of the objective are 0", None, "give at least one a weight above 0")
    if document.hard_deadline and document.deadline is None:
        problems.add(
            "hard_deadline", "there is no deadline that could be hard", True, "add `deadline`, such as `deadline: 2h`"
        )
    return known


def coerce(kind: str, value: Any) -> Any:
    """The value of a parameter as its declared type. Raises UnfitError if it is none, or not of that type."""
    if value is None:
        raise UnfitError("the parameter has no value", "give it a default, or pass --param NAME=VALUE")
    good = _TYPES.get(kind, lambda _: True)(value)
    if not good:
        raise UnfitError(f"{value!r} is not of the type {kind}", "correct the value or the type")
    return float(value) if kind in {"float", "number"} else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "int": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "float": _is_number,
    "bool": lambda v: isinstance(v, bool),
    "string": lambda v: isinstance(v, str),
    "list": lambda v: isinstance(v, list),
}
_TYPES |= {"integer": _TYPES["int"], "number": _is_number, "boolean": _TYPES["bool"], "str": _TYPES["string"]}
_TYPES["path"] = _TYPES["string"]


def check_task(name: str, document: ExperimentDocument, problems: Problems) -> None:
    """Check the fields of one task against each other."""
    task, path = document.tasks[name], f"tasks.{name}"
    _check_program(path, task, document, problems)
    _check_compute(f"{path}.resources", task.resources, problems)
    _check_permitted(f"{path}.", task.allow or (), task.deny or (), problems)
    for key in task.task_outputs:
        if key in task.task_inputs:
            message = f"{key} is both an input and an output, and both become an environment variable"
            problems.add(f"{path}.task_outputs.{key}", message, task.task_outputs[key], "rename one of them")
    places: dict[str, str] = {}
    for key, place in task.task_outputs.items():
        if place in places:
            message = f"{key} and {places[place]} are the same file"
            problems.add(f"{path}.task_outputs.{key}", message, place, "write each output to a file of its own")
        places[place] = key
    for key in task.environment:
        if key in task.task_inputs or key in task.task_outputs:
            message = f"{key} is given in environment and as an input or output"
            problems.add(f"{path}.environment.{key}", message, task.environment[key], "leave one of them out")


def _check_program(path: str, task: Task, document: ExperimentDocument, problems: Problems) -> None:
    given = [field for field in PROGRAMS if getattr(task, field) is not None]
    if len(given) != 1:
        message = f"{' and '.join(given)} exclude each other" if given else "the task has no script, command or python"
        problems.add(path, message, given or None, "write exactly one of script, command and python")
    if task.script is not None and task.script not in document.scripts:
        remedy = did_you_mean(task.script, document.scripts) if document.scripts else f"add it as scripts.{task.script}"
        problems.add(f"{path}.script", f"there is no script {task.script!r}", task.script, remedy)
    if task.command is not None:
        _check_command(path, task.command, task, document, problems)
    if task.python_path and task.python is None:
        problems.add(
            f"{path}.python_path", "python_path is for tasks with python", list(task.python_path), "leave it out"
        )


def _check_command(
    path: str, command: tuple[str, ...], task: Task, document: ExperimentDocument, problems: Problems
) -> None:
    if not command or not command[0].strip():
        problems.add(f"{path}.command", "the command is empty", list(command), "write [program, argument, …]")
        return
    if PurePosixPath(command[0]).name in _SHELLS:
        return
    names = {*task.task_inputs, *task.task_outputs, *document.parameters}
    for argument in command:
        pasted = [name for name in re.findall(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)", argument) if name in names]
        if pasted:
            problems.add(
                f"{path}.command",
                f"parameters are not pasted into arguments, so the program would get {argument!r} as it is",
                argument,
                f"let the program read ${pasted[0]} from its environment, or use a script that passes it on",
            )


def _check_compute(path: str, compute: Compute, problems: Problems) -> None:
    if compute.memory is not None and compute.ram_gb is not None:
        problems.add(f"{path}.memory", "memory and ram_gb say the same twice", compute.memory, "leave one of them out")
    if compute.node is not None and compute.node != 1:
        message = f"a task runs on one node in this version, not on {compute.node}"
        problems.add(f"{path}.node", message, compute.node, "leave it out, or write 1")
    if compute.vram_gb:
        message = "this version cannot ask for vram_gb, the memory of a graphics processor"
        problems.add(f"{path}.vram_gb", message, compute.vram_gb, "ask for gpu, and name fitting resources under allow")


def _check_permitted(path: str, allow: tuple[str, ...], deny: tuple[str, ...], problems: Problems) -> None:
    for name in sorted(set(allow) & set(deny)):
        problems.add(f"{path}deny", f"{name!r} is under allow and under deny", name, "leave it out of one of them")


def read_results(
    document: ExperimentDocument, broken: Collection[str], problems: Problems
) -> dict[str, dict[str, tuple[str, str]]]:
    """Step -> column -> (output name, ``stdout`` or ``return``; JSON pointer)."""
    found: dict[str, dict[str, tuple[str, str]]] = {name: {} for name in document.tasks}
    for path, step, column, text in _declared_results(document, broken, problems):
        task = document.tasks[step]
        source, _, pointer = text.partition("#")
        sources = {*task.task_outputs, "stdout", *(["return"] if task.python else [])}
        if source not in sources:
            problems.add(path, f"the step {step!r} has no output {source!r}", text, did_you_mean(source, sources))
        elif (pointer and not pointer.startswith("/")) or re.search(r"~(?![01])", pointer):
            problems.add(path, f"{pointer!r} is not a JSON pointer", text, f"write {source}#/key or {source}#/key/0")
        elif column in found[step] or column in task.task_inputs:
            problems.add(path, f"the step {step!r} has a column {column!r} already", text, "choose another name")
        else:
            found[step][column] = (source, pointer)
    return found


def _declared_results(
    document: ExperimentDocument, broken: Collection[str], problems: Problems
) -> Iterator[tuple[str, str, str, str]]:
    """(path, step, column, source) of every result, of the tasks and of the document; without broken steps."""
    for name, task in document.tasks.items():
        if name not in broken:
            for column, text in task.results.items():
                yield f"tasks.{name}.results.{column}", name, column, text
    for column, text in document.results.items():
        step, _, source = text.partition(".")
        if step in broken:
            continue
        if step in document.tasks and source:
            yield f"results.{column}", step, column, source
        else:
            message = f"{text!r} does not name an output of a step"
            remedy = f"write step.OUTPUT#/pointer; {did_you_mean(step, document.tasks)}"
            problems.add(f"results.{column}", message, text, remedy)
