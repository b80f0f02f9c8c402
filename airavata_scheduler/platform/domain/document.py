"""Reading an experiment document: from text to a checked :class:`ExperimentDocument`, or all of its problems at once.

The way of a document: plain data (:mod:`.document_yaml`), overrides, fields (:mod:`.document_model`), and what spans
several fields (:mod:`.document_steps`). A part that is broken is taken out before the next look, so that one mistake
hides no other and causes no second message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from airavata_scheduler.platform.domain.document_model import (
    Compute,
    ExperimentDocument,
    Objective,
    Parameter,
    Resources,
    Retry,
    SampleSpec,
    Task,
)
from airavata_scheduler.platform.domain.document_problems import Problems, add_structural, did_you_mean
from airavata_scheduler.platform.domain.document_steps import shapes_of
from airavata_scheduler.platform.domain.document_yaml import load, load_scalar
from airavata_scheduler.platform.domain.errors import InvalidDocumentError

__all__ = ["MAX_TASKS", "ExperimentDocument", "json_schema", "parse_document"]

MAX_TASKS = 10_000_000

_FIELDS_AT: dict[tuple[str, ...], Any] = {
    (): ExperimentDocument.model_fields,
    ("tasks", "*"): Task.model_fields,
    ("tasks", "*", "resources"): Compute.model_fields,
    ("tasks", "*", "retry"): Retry.model_fields,
    ("tasks", "*", "sample"): SampleSpec.model_fields,
    ("resources",): Resources.model_fields,
    ("resources", "compute"): Compute.model_fields,
    ("retry",): Retry.model_fields,
    ("objective",): Objective.model_fields,
    ("parameters", "*"): Parameter.model_fields,
}


def parse_document(
    source: str | bytes | Mapping[str, Any],
    *,
    overrides: Mapping[str, str] | None = None,
    now: float,
    max_tasks: int = MAX_TASKS,
) -> ExperimentDocument:
    """The document in ``source`` (YAML or JSON text, or a mapping).

    ``overrides`` replace values of parameters (text as from the command line), ``now`` is the present time in seconds
    since the epoch, against which the deadline counts. Raises InvalidDocumentError with every problem there is.
    """
    raw = load(source)
    problems = Problems()
    _override(raw, overrides or {}, problems)
    document, broken = _validate(raw, now, problems)
    if document is not None:
        problems.found.extend(shapes_of(document, max_tasks=max_tasks, broken=broken)[1])
    if problems.found or document is None:
        raise InvalidDocumentError(problems.found)
    return document


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a document, for editors and other tools."""
    schema = ExperimentDocument.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _override(raw: dict[str, Any], overrides: Mapping[str, str], problems: Problems) -> None:
    declared = raw.get("parameters")
    parameters: dict[str, Any] = declared if isinstance(declared, dict) else {}
    for name, text in overrides.items():
        if name not in parameters:
            known = list(parameters)
            remedy = did_you_mean(name, known) if known else "declare it under parameters"
            problems.add(f"parameters.{name}", f"there is no parameter {name!r} to override", text, remedy)
            continue
        spec = parameters[name] if isinstance(parameters[name], dict) else {"default": parameters[name]}
        parameters[name] = {**spec, "default": _overriding(spec, text)}


def _overriding(spec: Mapping[str, Any], text: str) -> Any:
    """What the text on the command line means for this parameter: text stays text where text is expected."""
    kind = spec.get("type", "any")
    if kind in ("string", "str", "path") or (kind == "any" and isinstance(spec.get("default"), str)):
        return text
    return load_scalar(text)


def _validate(raw: dict[str, Any], now: float, problems: Problems) -> tuple[ExperimentDocument | None, set[str]]:
    """The document without its broken fields, or None if nothing is left; and the names of steps that had some."""
    broken: set[str] = set()
    first = True
    while True:
        try:
            return ExperimentDocument.model_validate(raw, context={"now": now}), broken
        except ValidationError as error:
            if first:
                add_structural(problems, error, _FIELDS_AT)
            first = False
            places = [tuple(part for part in detail["loc"] if part != "[key]") for detail in error.errors()]
            broken |= {str(place[1]) for place in places if place[:1] == ("tasks",) and len(place) > 1}
            removed = [_remove(raw, place) for place in places]
            if not all(removed):
                return None, broken


def _remove(raw: Any, place: tuple[int | str, ...]) -> bool:
    """Take the field at ``place`` out of the data; of a list, the whole list. False if that is not possible."""
    if not place:
        return False
    names = place[: next((at for at, part in enumerate(place) if isinstance(part, int)), len(place))]
    for name in names[:-1]:
        raw = raw.get(name) if isinstance(raw, dict) else None
    if not isinstance(raw, dict):
        return names != place
    return raw.pop(names[-1], None) is not None or names != place
