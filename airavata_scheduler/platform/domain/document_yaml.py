"""From text to plain data, safely: the core schema of YAML 1.2, no duplicate keys, bounded size, depth and aliases.

The core schema is what people expect: only ``true`` and ``false`` are booleans, so ``no`` and ``on`` are text;
``1e3`` is a number; dates, ``0:05:00`` and ``007`` are text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

from airavata_scheduler.platform.domain.encoding import encode_value
from airavata_scheduler.platform.domain.errors import InvalidDocumentError, Problem, shorten

MAX_CHARACTERS = 16 * 1024 * 1024
MAX_NODES = 2_000_000
MAX_DEPTH = 64

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """The safe loader with the resolvers of YAML 1.2's core schema, and without duplicate keys."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the base class reads it from the class

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """A dictionary; a key that is there twice is an error, because one of the two would be lost."""
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key.start_mark)
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is there twice", key.start_mark
                )
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep=deep)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,39})|0x[0-9a-fA-F]{1,32}|0o[0-7]{1,40}", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+", "-+.0123456789"),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


def load(source: str | bytes | Mapping[str, Any]) -> dict[str, Any]:
    """The document as dictionaries with text keys, lists and scalars; a copy. Raises InvalidDocumentError."""
    data = source if isinstance(source, Mapping) else _load_text(source)
    if data is None:
        raise _refused("the document is empty: it needs at least `tasks`", path="tasks")
    if not isinstance(data, Mapping):
        raise _refused("the document must be a mapping with at least `tasks`", data)
    budget = [MAX_NODES]
    copied: dict[str, Any] = _plain(data, "", 0, budget)
    return copied


def load_scalar(text: str) -> Any:
    """What a value on the command line means: a number, true, false, a list or mapping in YAML, else text."""
    try:
        value = _load_text(text)
        return _plain(text if value is None else value, "", 0, [MAX_NODES])
    except InvalidDocumentError:
        return text


def _load_text(source: str | bytes) -> Any:
    try:
        text = source.decode("utf-8-sig") if isinstance(source, bytes) else source.removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = source[: error.start].count(b"\n") + 1 if isinstance(source, bytes) else 0
        raise _refused(f"line {line}: the document is not UTF-8 text", remedy="save it as UTF-8") from None
    if len(text) > MAX_CHARACTERS:
        raise _refused(
            f"the document has {len(text)} characters, the most is {MAX_CHARACTERS}",
            remedy="write values as ranges, or draw them with sample",
        )
    try:
        _measure(text)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - derived from the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else "line 1: "
        raise _refused(f"{place}{error.problem or error.context}", remedy="correct the YAML there") from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise _refused(f"line {line}: a character that YAML does not permit", remedy="remove it") from None
    except (ValueError, OverflowError, RecursionError, UnicodeError) as error:
        raise _refused(f"line 1 and following: {error}", remedy="correct the YAML") from None


def _measure(text: str) -> None:
    """Refuse what would be too deep or too large once aliases are followed; reads events only, so it is itself safe."""
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, Loader=_Base):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, total))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = total - before + 1
        elif isinstance(event, yaml.AliasEvent) and event.anchor:
            if any(anchor == event.anchor for anchor, _ in open_nodes):
                raise _refused(f"line {line}: the alias *{event.anchor} contains itself")
            total += sizes.get(event.anchor, 1)
        total += 1
        if total > MAX_NODES or len(open_nodes) > MAX_DEPTH:
            what = f"more than {MAX_NODES} values" if total > MAX_NODES else f"more than {MAX_DEPTH} levels"
            raise _refused(f"line {line}: the document has {what}", remedy="write values as ranges")


def _plain(value: Any, path: str, depth: int, budget: list[int]) -> Any:
    budget[0] -= 1
    if depth > MAX_DEPTH or budget[0] < 0:
        raise _refused(
            f"more than {MAX_DEPTH} levels or {MAX_NODES} values", path=path, remedy="write values as ranges"
        )
    if isinstance(value, Mapping):
        return {
            _key(key, path): _plain(item, f"{path}.{key}" if path else str(key), depth + 1, budget)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(item, f"{path}.{at}", depth + 1, budget) for at, item in enumerate(value)]
    return _scalar(value, path)


def _scalar(value: Any, path: str) -> Any:
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
            raise _refused("a character that no program can be given", value, path, "remove NUL and broken surrogates")
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise _refused(f"{value} is not a finite number", value, path, "write it in quotes to pass it on as text")
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        if value.bit_length() > 256:
            raise _refused("is too large a number", path=path, remedy="write it in quotes to pass it on as text")
        return value
    raise _refused(f"a value of the type {type(value).__name__} is not possible", value, path, "write text, in quotes")


def _key(key: Any, path: str) -> str:
    if key is None or isinstance(key, str | int | float):
        name = encode_value(key)
        _scalar(name, path)
        return name
    raise _refused("a key must be plain text", key, path)


def _refused(message: str, value: Any = None, path: str = "", remedy: str = "write a mapping") -> InvalidDocumentError:
    return InvalidDocumentError([Problem(path, message, "" if value is None else shorten(value), remedy)])
