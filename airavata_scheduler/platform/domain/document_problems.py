"""Collecting everything that is wrong with a document, in words for the person who wrote it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from airavata_scheduler.platform.domain.errors import Problem, shorten

SEE_REFERENCE = "docs/experiment-document.md describes what may be written here"


class UnfitError(ValueError):
    """A value that cannot be used, and what to write instead."""

    def __init__(self, message: str, remedy: str = SEE_REFERENCE) -> None:
        super().__init__(message)
        self.remedy = remedy


class ConsequenceError(UnfitError):
    """A value that cannot be used because of a problem that was noted elsewhere; there is nothing to say about it."""


@dataclass(slots=True)
class Problems:
    """A list that grows while a document is read."""

    found: list[Problem] = field(default_factory=list)
    consequences: int = 0  #: Problems that were not noted, because they follow from others.

    @property
    def count(self) -> int:
        """How much was wrong so far, with what follows from it."""
        return len(self.found) + self.consequences

    def add(self, path: str, message: str, value: Any = None, remedy: str = SEE_REFERENCE) -> None:
        """Note a problem. ``value`` is shortened; None: there is no value to show."""
        self.found.append(Problem(path, message, "" if value is None else shorten(value), remedy))

    def catch(self, path: str, error: ValueError, value: Any = None) -> None:
        """Note what a ValueError says."""
        if isinstance(error, ConsequenceError):
            self.consequences += 1
            return
        self.add(path, str(error), value, getattr(error, "remedy", SEE_REFERENCE))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A remedy for a name that is not known."""
    names = list(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"use one of: {', '.join(sorted(names)[:40])}" if names else "there is nothing that could be named here"


def add_structural(
    problems: Problems, error: ValidationError, fields_at: Mapping[tuple[str, ...], Iterable[str]]
) -> None:
    """Add what pydantic found. ``fields_at``: pattern of a path (``*`` is any key) -> the fields permitted there."""
    for detail in error.errors(include_url=False):
        location = tuple(str(part) for part in detail["loc"] if part != "[key]")
        path, value, kind = ".".join(location), detail["input"], detail["type"]
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, UnfitError):
            problems.catch(path, cause, value)
        elif kind == "extra_forbidden":
            known = _fields(location[:-1], fields_at)
            problems.add(path, f"there is no field {location[-1]!r} here", value, did_you_mean(location[-1], known))
        elif kind == "missing":
            problems.add(path, f"{location[-1]} is missing", None, f"add {location[-1]}")
        else:
            problems.add(path, _say(location, detail["msg"]), value, _REMEDIES.get(kind, SEE_REFERENCE))


_REMEDIES = {
    "dict_type": "write a mapping, with one `name: value` a line",
    "model_type": "write a mapping, with one `name: value` a line",
    "model_attributes_type": "write a mapping, with one `name: value` a line",
    "tuple_type": "write a list, such as [one, two]",
    "string_type": "write text; put it in quotes if it looks like a number",
    "float_parsing": "write a number",
    "float_type": "write a number",
    "int_parsing": "write a whole number",
    "int_type": "write a whole number",
    "int_from_float": "write a whole number",
    "greater_than": "write a larger number",
    "greater_than_equal": "write a larger number",
    "less_than": "write a smaller number",
    "less_than_equal": "write a smaller number",
    "too_short": "add at least one",
    "too_long": "write fewer",
    "string_too_short": "write at least one character",
    "string_too_long": "write less",
    "literal_error": "choose one of the values that are named",
    "enum": "choose one of the values that are named",
}


def _say(location: tuple[str, ...], message: str) -> str:
    text = message.replace("Input should be", "must be").replace("Input should", "must")
    text = (
        text.replace("a valid dictionary", "a mapping").replace("a valid tuple", "a list").removeprefix("Value error, ")
    )
    return f"{location[-1] if location else 'the document'}: {text[:1].lower()}{text[1:]}"


def _fields(parent: tuple[str, ...], fields_at: Mapping[tuple[str, ...], Iterable[str]]) -> list[str]:
    for pattern, names in fields_at.items():
        if len(pattern) == len(parent) and all(p in ("*", part) for p, part in zip(pattern, parent, strict=True)):
            return list(names)
    return []
