"""What the benchmarks print: words for people on standard error, one line of JSON for programs on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any


def say(text: str) -> None:
    """How it goes."""
    print(text, file=sys.stderr, flush=True)


def rounded(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Four significant places are more than any figure here is good for."""
    return {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in figures.items()}


def show(figures: Mapping[str, Any], *, as_json: bool) -> None:
    """The product of every command of this package."""
    line = rounded(figures)
    print(json.dumps(line) if as_json else "\n".join(f"{key:28} {value}" for key, value in line.items()), flush=True)
