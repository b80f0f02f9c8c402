"""From what a user hands over (text, a mapping, a file, an `Experiment`) to the body of a request."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from airavata_scheduler.client.document_files import inline_files
from airavata_scheduler.client.errors import InvalidDocumentError, Problem
from airavata_scheduler.client.experiment import Experiment
from airavata_scheduler.platform.domain import errors as domain_errors

Document = Experiment | Mapping[str, Any] | str | Path


def submission_body(
    document: Document,
    *,
    base_dir: Path | None = None,
    project: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    start: bool = True,
) -> dict[str, Any]:
    """The JSON that `POST /experiments` takes. A `Path` is read; text and mappings are taken as they are.

    Files that the document names are read relative to the document (`base_dir`, or the folder of the `Path`) and put
    into it, because the platform cannot see them.
    """
    body: dict[str, Any] = {"document": _content(document, base_dir), "start": start}
    if project:
        body["project"] = project
    if parameters:
        body["parameters"] = {name: _text(value) for name, value in parameters.items()}
    return body


def with_point(document: str | Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """The document with the objective and the budget of a plan of the frontier."""
    written = _mapping(document) if isinstance(document, str) else document
    chosen = {"objective": point["objective"], "budget": point["budget"]}
    return {**plain(written), **{name: value for name, value in chosen.items() if value is not None}}


def _content(document: Document, base_dir: Path | None) -> Any:
    folder = document.parent if isinstance(document, Path) else base_dir or Path.cwd()
    if isinstance(document, Experiment):
        return plain(_with_files(document.document(), folder))
    if isinstance(document, Mapping):
        return plain(_with_files(document, folder))
    text = _read(document) if isinstance(document, Path) else document
    written = _mapping(text)
    inlined = _with_files(written, folder)
    return text if inlined == written else plain(inlined)


def _with_files(document: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    try:
        return inline_files(document, folder)
    except domain_errors.InvalidDocumentError as error:
        problems = [Problem(p.path, p.message, p.value, p.remedy) for p in error.problems]
        raise InvalidDocumentError(error.message, problems=problems) from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        remedy = "save the document as UTF-8"
        raise InvalidDocumentError(f"{path} is not text in UTF-8: {error.reason}", remedy=remedy) from None


def _mapping(text: str) -> dict[str, Any]:
    """What the text says, or nothing when it cannot be read: the platform says why, with the line."""
    from airavata_scheduler.platform.domain import document_yaml  # noqa: PLC0415  (loaded when it is needed)

    try:
        return document_yaml.load(text)
    except domain_errors.InvalidDocumentError:
        return {}


def plain(value: Any) -> Any:
    """The same out of JSON's own types: dates as text, NumPy's numbers and arrays as numbers and lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str | bool | int | float) or value is None:
        return value
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Sequence | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise TypeError(
        f"{value!r} of type {type(value).__name__} cannot be part of an experiment: use text, numbers and lists"
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(plain(value))
