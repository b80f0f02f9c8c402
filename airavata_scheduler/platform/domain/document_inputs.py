"""From what is written under ``task_inputs``, ``rows``, ``sweep`` and ``sample`` to an encoded sweep."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airavata_scheduler.platform.domain.axes import SCALES, Axis, Interval, Rows, Space, Steps, Values
from airavata_scheduler.platform.domain.document_model import (
    RESERVED_NAMES,
    RESERVED_PREFIX,
    VARIABLE_NAME,
    SampleSpec,
    Task,
)
from airavata_scheduler.platform.domain.document_problems import ConsequenceError, Problems, UnfitError, did_you_mean
from airavata_scheduler.platform.domain.encoding import encode_value
from airavata_scheduler.platform.domain.errors import shorten
from airavata_scheduler.platform.domain.quantities import RANGE_FORMS, looks_like_range, parse_range
from airavata_scheduler.platform.domain.sweep import Product, Sample, Sweep, Zip

ROWS = "rows"  #: The name of the table in ``sweep`` and ``sample.over``.
_PLACEHOLDER = re.compile(r"\$\$\{|\$\{([^}]*)\}")
_SPACE_FORMS = "write {start: 0, stop: 1, num: 11} or [0, 1, 11]"
_FORMS = "a value, a list, 1..100, {linspace: …}, {logspace: …}, {geomspace: …}, {range: …}, {min, max} or {value: …}"


@dataclass(frozen=True, slots=True)
class Origin:
    """A parameter that is an output of another step."""

    step: str
    output: str


@dataclass(slots=True)
class Inputs:
    """What the inputs of one task mean. ``axes`` keep the order of the document; ROWS stands for the table."""

    axes: dict[str, Axis] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)
    origins: dict[str, Origin] = field(default_factory=dict)


def substitute(value: Any, known: Mapping[str, Any]) -> Any:
    """``value`` with every ``${NAME}`` replaced by the parameter of that name; ``$${`` stands for ``${``.

    Text that is nothing but one placeholder takes the value as it is. Raises UnfitError for an unknown name and
    ConsequenceError for one whose value is None, which stands for a problem that was noted already.
    """
    if isinstance(value, dict):
        return {key: substitute(item, known) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, known) for item in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    whole = re.fullmatch(r"\$\{([^}]*)\}", value)
    if whole:
        return _look_up(whole[1], known)
    return _PLACEHOLDER.sub(lambda m: "${" if m[1] is None else encode_value(_look_up(m[1], known)), value)


def _look_up(name: str, known: Mapping[str, Any]) -> Any:
    if name in known:
        if known[name] is None:
            raise ConsequenceError(f"the parameter {name!r} has no usable value")
        return known[name]
    if "." in name:
        raise UnfitError(
            f"${{{name}}} must stand alone, in a task_inputs value of its own", "give it a parameter of its own"
        )
    raise UnfitError(
        f"there is no parameter {name!r}", did_you_mean(name, known) if known else "add it under parameters"
    )


def read_inputs(name: str, task: Task, known: Mapping[str, Any], problems: Problems) -> Inputs:
    """The inputs of the task ``name``; what is wrong is added to ``problems``."""
    inputs = Inputs()
    if task.rows is not None:
        try:
            inputs.axes[ROWS] = _rows(task.rows, set(task.task_inputs))
        except ValueError as error:
            problems.catch(f"tasks.{name}.rows", error, task.rows)
    for key, value in task.task_inputs.items():
        try:
            _read_input(key, value, known, inputs)
        except ValueError as error:
            problems.catch(f"tasks.{name}.task_inputs.{key}", error, value)
    return inputs


def _read_input(key: str, value: Any, known: Mapping[str, Any], inputs: Inputs) -> None:
    reference = re.fullmatch(r"\$\{([^}.]+)\.([^}]+)\}", value) if isinstance(value, str) else None
    if reference:
        inputs.origins[key] = Origin(reference[1], reference[2])
        return
    found = substitute(value, known)
    if found is None:
        raise UnfitError(f"{key} has no value", f"write {_FORMS}")
    if isinstance(found, str) and looks_like_range(found):
        inputs.axes[key] = _range(key, found)
    elif isinstance(found, list):
        inputs.axes[key] = _values(key, found)
    elif isinstance(found, dict) and "value" not in found:
        inputs.axes[key] = _spelled(key, found)
    else:
        inputs.constants.add(key)
        inputs.axes[key] = Values(key, (_only_value(found) if isinstance(found, dict) else found,))


def _only_value(form: dict[str, Any]) -> Any:
    if len(form) != 1:
        raise UnfitError("value cannot be combined with other fields", "write {value: …} alone")
    return form["value"]


def _values(key: str, values: Any) -> Values:
    if not isinstance(values, list):
        raise UnfitError("values must be a list", "write {values: [1, 2, 3]}")
    if not values:
        raise UnfitError(f"{key} has an empty list of values, so there would be no task", "add at least one value")
    return Values(key, tuple(values))


def _range(key: str, text: str) -> Axis:
    try:
        first, last, step = parse_range(text)
    except ValueError as error:
        raise UnfitError(f"{text!r} {error}", f"{RANGE_FORMS}; as text: {{value: '{text[:40]}'}}") from None
    return _steps(key, first, last, step)


def _steps(key: str, first: Any, last: Any, step: Any) -> Axis:
    axis = Steps(key, first, last, step)
    if not axis.n:
        raise UnfitError(
            f"{key} is empty: {first}..{last} with a step of {step} has no values",
            f"write {last}..{first}, or a step below 0 to count down",
        )
    return axis


def _spelled(key: str, form: dict[str, Any]) -> Axis:
    """The axis of a mapping such as ``{linspace: [0, 1, 11]}``."""
    if set(form) & {"min", "max"}:
        return _interval(key, form)
    if "file" in form:
        raise UnfitError(
            f"the file {shorten(form['file'])} was not read",
            "submit with the airavata command, or send the values themselves",
        )
    if len(form) != 1 or next(iter(form)) not in (*SCALES, "range", "values"):
        raise UnfitError(f"{shorten(form)} is not a way to give values", f"write {_FORMS}")
    kind, given = next(iter(form.items()))
    if kind == "values":
        return _values(key, given)
    if kind == "range":
        found = _numbers(kind, given, ("start", "stop"), {"step": 1})
        return _steps(key, found["start"], found["stop"], found["step"])
    found = _numbers(kind, given, ("start", "stop", "num"), {"base": 10} if kind == "logspace" else {})
    if not isinstance(found["num"], int) or found["num"] < 1:
        raise UnfitError(f"num must be a whole number of at least 1, not {found['num']}", _SPACE_FORMS)
    return Space(key, kind, found["start"], found["stop"], found["num"], found.get("base", 10))


def _numbers(kind: str, given: Any, needed: tuple[str, ...], optional: Mapping[str, Any]) -> dict[str, Any]:
    names = (*needed, *optional)
    forms = f"write {{{kind}: {{{', '.join(f'{name}: …' for name in names)}}}}}"
    if isinstance(given, list) and len(needed) <= len(given) <= len(names):
        given = dict(zip(names, given, strict=False))
    if not isinstance(given, dict) or not set(needed) <= set(given) <= set(names):
        raise UnfitError(f"{kind} needs {', '.join(needed)}", forms)
    found = {**optional, **given}
    for name, number in found.items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise UnfitError(f"{name} of {kind} must be a number, not {shorten(number)}", forms)
    return found


def _interval(key: str, form: dict[str, Any]) -> Interval:
    flags = {name: form[name] for name in ("log", "integer") if name in form}
    if any(not isinstance(flag, bool) for flag in flags.values()):
        raise UnfitError("log and integer are true or false", "write {min: 1, max: 10, log: true}")
    found = _numbers("min/max", {k: v for k, v in form.items() if k not in flags}, ("min", "max"), {})
    whole = flags.get("integer", False)
    if whole and not (isinstance(found["min"], int) and isinstance(found["max"], int)):
        raise UnfitError(
            "min and max must be whole numbers with integer: true", "write {min: 1, max: 10, integer: true}"
        )
    return Interval(key, found["min"], found["max"], flags.get("log", False), whole)


def _rows(table: Any, others: set[str]) -> Rows:
    if isinstance(table, str) or (isinstance(table, dict) and "file" in table):
        raise UnfitError(
            f"the file {shorten(table)} was not read",
            "submit with the airavata command, or send a list of {parameter: value}",
        )
    if not isinstance(table, list) or not all(isinstance(row, dict) for row in table):
        raise UnfitError("rows must be a list of {parameter: value}", "write [{A: 1, B: 2}, {A: 3, B: 4}]")
    if not table or not table[0]:
        raise UnfitError("rows is empty, so there would be no task", "add at least one row")
    names = tuple(table[0])
    for at, row in enumerate(table):
        if set(row) != set(names):
            raise UnfitError(
                f"row {at} has the columns {sorted(row)}, the first one has {sorted(names)}",
                "give every row all columns",
            )
    for name in names:
        if not re.fullmatch(VARIABLE_NAME, name) or name in RESERVED_NAMES or name.startswith(RESERVED_PREFIX):
            raise UnfitError(
                f"{name!r} cannot be the name of a parameter", "rename the column; use letters, digits and _"
            )
        if name in others:
            raise UnfitError(f"{name} is given in rows and in task_inputs", "leave one of them out")
    return Rows(names, tuple(tuple(row[name] for name in names) for row in table))


def join(task: Task, inputs: Inputs) -> Sweep:
    """The sweep of a task from its axes. Raises ValueError."""
    swept = {key: axis for key, axis in inputs.axes.items() if key not in inputs.constants}
    groups = _zip_groups(task.sweep, swept)
    sample = task.sample
    if sample and groups:
        raise UnfitError("sweep and sample exclude each other", "leave one of them out")
    if sample:
        groups = [_sampled(sample, swept)]
    first_of = {group[0]: group for group in groups}
    inside = {key for group in groups for key in group}
    parts: list[Axis] = []
    for key, axis in inputs.axes.items():
        if key in first_of:
            members = tuple(swept[member] for member in first_of[key])
            parts.append(Sample(members, sample.method, sample.n, sample.seed) if sample else Zip(members))
        elif key not in inside:
            parts.append(axis)
    return Sweep(Product(tuple(parts)))


def _sampled(sample: SampleSpec, swept: Mapping[str, Axis]) -> list[str]:
    for name in sample.over:
        if name not in swept:
            raise UnfitError(f"sample.over names {name!r}, which has no values to draw from", did_you_mean(name, swept))
    chosen = [key for key in swept if not sample.over or key in sample.over]
    if not chosen:
        raise UnfitError(
            "there is no parameter to sample", "give at least one parameter a range, a list or min and max"
        )
    return chosen


def _zip_groups(how: Any, swept: Mapping[str, Axis]) -> list[list[str]]:
    if how == "product":
        return []
    if how == "zip":
        return [list(swept)] if swept else []
    groups = how.get("zip") if isinstance(how, dict) and len(how) == 1 else None
    if isinstance(groups, list) and groups and all(isinstance(name, str) for name in groups):
        groups = [groups]
    if not isinstance(groups, list) or not all(
        isinstance(g, list) and g and all(isinstance(n, str) for n in g) for g in groups
    ):
        raise UnfitError(
            f"{shorten(how)} is not a way to join parameters",
            "write product, zip, {zip: [A, B]} or {zip: [[A, B], [C, D]]}",
        )
    names = [name for group in groups for name in group]
    for name in names:
        if name not in swept:
            raise UnfitError(f"zip names {name!r}, which is not swept in this task", did_you_mean(name, swept))
        if names.count(name) > 1:
            raise UnfitError(f"zip names {name!r} twice", "name each parameter once")
    order = list(swept)
    return [sorted(group, key=order.index) for group in groups]
