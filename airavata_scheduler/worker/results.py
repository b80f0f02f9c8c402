"""Values for the results table, read by JSON pointer (RFC 6901) from an output, standard output or a return value."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from airavata_scheduler.worker.outputs import CollectError

MOST_JSON_BYTES = 16 * 1024 * 1024
_MOST_LEVELS = 100


def extract(results: Mapping[str, tuple[str, str]], read: Callable[[str], Any]) -> dict[str, Any]:
    """Every declared column. ``read`` gives the parsed JSON of a source, or raises ValueError or OSError.

    Raises CollectError that names column, source and pointer.
    """
    documents: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for column, (source, pointer) in results.items():
        try:
            if source not in documents:
                documents[source] = read(source)
            values[column] = _checked(resolve(documents[source], pointer))
        except (ValueError, LookupError, OSError, RecursionError) as error:
            where = f"{source} at {pointer!r}" if pointer else source
            raise CollectError("missing_output", f"result {column} could not be read from {where}: {error}") from error
    return values


def resolve(document: Any, pointer: str) -> Any:
    """The value at ``pointer``. Raises LookupError."""
    value = document
    for raw in pointer.split("/")[1:] if pointer.startswith("/") else ([pointer] if pointer else []):
        token = raw.replace("~1", "/").replace("~0", "~")
        value = _step(value, token)
    return value


def parse_json(text: bytes, source: str) -> Any:
    """Parsed JSON. Raises ValueError that says what is wrong."""
    if len(text) >= MOST_JSON_BYTES:
        raise ValueError(f"{source} is larger than {MOST_JSON_BYTES} bytes")
    if not text.strip():
        raise ValueError(f"{source} is empty")
    return json.loads(text)


def _checked(value: Any) -> Any:
    """The value, unless it is nested more deeply than all who pass it on can take. Raises ValueError."""
    level = [value]
    for _ in range(_MOST_LEVELS):
        level = [
            item
            for container in level
            if isinstance(container, dict | list)
            for item in (container.values() if isinstance(container, dict) else container)
        ]
        if not level:
            return value
    raise ValueError(f"it is nested more than {_MOST_LEVELS} levels deep")


def _step(value: Any, token: str) -> Any:
    if isinstance(value, dict):
        if token not in value:
            raise LookupError(f"there is no {token!r}; there are {', '.join(sorted(map(str, value))) or 'no names'}")
        return value[token]
    if isinstance(value, list):
        if not token.isdigit() or int(token) >= len(value):
            raise LookupError(f"{token!r} is not an index into {len(value)} values")
        return value[int(token)]
    raise LookupError(f"{token!r} is looked for in {value!r}, which holds nothing")
