"""Tables of parameters that a document names: read where the document is, before it is submitted.

``rows: points.csv`` and ``X: {file: points.csv, column: x}`` work because the client puts the contents into
the document; the platform never reads a user's files by name.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airavata_scheduler.platform.domain.errors import InvalidDocumentError, Problem, shorten

MAX_FILE_BYTES = 64 * 1024 * 1024
_REMEDY = "give the path of a CSV file with a header line, or of a JSON list of objects, relative to the document"


def inline_files(document: Mapping[str, Any], base_dir: Path) -> dict[str, Any]:
    """A copy of the document in which every named table is replaced by its rows or values.

    Paths are relative to ``base_dir``. Raises InvalidDocumentError with every file that cannot be used.
    """
    problems: list[Problem] = []
    tasks = document.get("tasks")
    if not isinstance(tasks, Mapping):
        return dict(document)
    inlined = {
        name: _inline_task(f"tasks.{name}", task, base_dir, problems) if isinstance(task, Mapping) else task
        for name, task in tasks.items()
    }
    if problems:
        raise InvalidDocumentError(problems)
    return {**document, "tasks": inlined}


def _inline_task(path: str, task: Mapping[str, Any], base_dir: Path, problems: list[Problem]) -> dict[str, Any]:
    changed = dict(task)
    rows = task.get("rows")
    if isinstance(rows, str):
        rows = {"file": rows}
    if isinstance(rows, Mapping) and "file" in rows:
        changed["rows"] = _attempt(f"{path}.rows", rows, base_dir, problems)
    inputs = task.get("task_inputs")
    if isinstance(inputs, Mapping):
        changed["task_inputs"] = {
            name: _attempt(f"{path}.task_inputs.{name}", value, base_dir, problems)
            if isinstance(value, Mapping) and "file" in value
            else value
            for name, value in inputs.items()
        }
    return changed


def _attempt(path: str, form: Mapping[str, Any], base_dir: Path, problems: list[Problem]) -> Any:
    """The rows of a table, or the values of its one ``column``; None and a problem if that is not possible."""
    try:
        return _select(form, _read(base_dir / str(form["file"])), single=".task_inputs." in path)
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        problems.append(Problem(path, f"the file {form['file']} cannot be used: {reason}", str(form["file"]), _REMEDY))
        return None


def _select(form: Mapping[str, Any], table: list[dict[str, Any]], *, single: bool) -> Any:
    allowed = {"file", "column" if single else "columns"}
    if not set(form) <= allowed:
        raise ValueError(f"{sorted(set(form) - allowed)} is not known here, only {sorted(allowed)}")
    columns = list(table[0]) if table else []
    wanted = form.get("column" if single else "columns", columns)
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
        raise ValueError(f"{shorten(wanted)} is no name of a column")
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise ValueError(f"there is no column {missing[0]!r}, only {columns}")
    if single and len(wanted) != 1:
        raise ValueError(f"it has the columns {columns}, so `column` must name one")
    return [row[wanted[0]] for row in table] if single else [{name: row[name] for name in wanted} for row in table]


def _read(path: Path) -> list[dict[str, Any]]:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"it is larger than {MAX_FILE_BYTES} bytes")
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix.lower() == ".json":
        try:
            rows = json.loads(text)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError("it is not a list of objects")
        return _complete(rows)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    found = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True))
    lines = [line for line in found if line]
    if not lines:
        return []
    header = [name.strip() for name in lines[0]]
    if len(set(header)) != len(header):
        raise ValueError(f"a column is there twice in {header}")
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(header):
            raise ValueError(f"row {number} has {len(line)} values, the header has {len(header)}")
    return [dict(zip(header, map(_cell, line), strict=True)) for line in lines[1:]]


def _complete(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for number, row in enumerate(rows, 1):
        if set(row) != set(rows[0]):
            raise ValueError(f"object {number} has the keys {sorted(row)}, the first one has {sorted(rows[0])}")
    return rows


def _cell(text: str) -> int | float | str:
    """A number if the text is one in its plain form (``007`` and ``1_000`` are text), else the text."""
    stripped = text.strip()
    digits = stripped.lstrip("+-")
    if "_" in stripped or (len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()):
        return stripped
    try:
        return int(stripped)
    except ValueError:
        pass
    try:
        number = float(stripped)
    except ValueError:
        return stripped
    return number if math.isfinite(number) else stripped
