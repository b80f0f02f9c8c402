"""Sizes, durations, points in time and ranges as people write them. Standard library only (workers import it).

Every function raises ValueError with a message for people.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Any

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?(?:[eE]\+?\d{1,3})?)\s*(?:([kKMGTP])(i?))?[bB]?\s*")
_POWER = {"k": 1, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d|w)\s*")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_CLOCK = re.compile(r"\s*(?:(\d{1,4})-)?(\d{1,5}):([0-5]?\d)(?::([0-5]?\d(?:\.\d+)?))?\s*")
_NUMBER = r"[-+]?\d{1,18}(?:\.\d{1,18})?(?:[eE][-+]?\d{1,3})?"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*\.\.\s*({_NUMBER})\s*(?:\.\.\s*({_NUMBER})\s*)?")
_MAX_BYTES = 1 << 62
_MAX_SECONDS = 10 * 366 * 86400.0

SIZE_FORMS = "write bytes as a number, or with a unit: 500M, 4GB (10^9), 4GiB (2^30)"
DURATION_FORMS = "write seconds as a number, or 90s, 15m, 2h, 1h30m, 3d, 0:05:00 (hours:minutes:seconds)"
DEADLINE_FORMS = "write a date with a time zone such as 2031-05-01T12:00:00Z, or a duration from now such as 8h"
RANGE_FORMS = "write 1..100, or 0..1..0.25 with a step"


def parse_size(value: Any) -> int:
    """Bytes, from a number or from text such as ``500M``, ``4GB`` (10^9) or ``4GiB`` (2^30)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("is not a size")  # noqa: TRY004 - callers collect ValueErrors
    match = _SIZE.fullmatch(value) if isinstance(value, str) else _SIZE.fullmatch(repr(value))
    if not match:
        raise ValueError("is not a size")
    number, prefix, binary = match.groups()
    size = float(number) * ((1024 if binary else 1000) ** _POWER[prefix] if prefix else 1)
    if size > _MAX_BYTES:
        raise ValueError("is larger than any machine")
    return round(size)


def parse_duration(value: Any) -> float:
    """Seconds, from a number (of seconds) or from text such as ``1h30m`` or ``0:05:00``; more than 0."""
    seconds = _seconds(value)
    if not 0 < seconds <= _MAX_SECONDS:
        raise ValueError("must be more than 0 seconds and less than ten years")
    return seconds


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("is not a duration")  # noqa: TRY004 - callers collect ValueErrors
    if not isinstance(value, str):
        return min(float(value), math.inf) if abs(value) < _MAX_BYTES else math.inf
    text = value.strip()
    if re.fullmatch(r"\d{1,12}(\.\d+)?", text):
        return float(text)
    clock = _CLOCK.fullmatch(text)
    if clock:
        days, hours, minutes, seconds = clock.groups()
        return int(days or 0) * 86400.0 + int(hours) * 3600.0 + int(minutes) * 60.0 + float(seconds or 0)
    if not text or _DURATION.sub("", text):
        raise ValueError("is not a duration")
    return sum(float(amount) * _SECONDS[unit] for amount, unit in _DURATION.findall(text))


def parse_deadline(value: Any, now: float) -> float:
    """Seconds since the epoch, from an ISO date with a time zone or a duration from ``now``. The past is refused."""
    if isinstance(value, str) and re.match(r"\s*\d{4}-\d\d-\d\d", value):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError("is not a date") from None
        if moment.tzinfo is None:
            raise ValueError("is a date without a time zone, so its meaning depends on the machine")
        if moment.timestamp() <= now:
            raise ValueError("lies in the past")
        if moment.timestamp() > now + _MAX_SECONDS:
            raise ValueError("is more than ten years away")
        return moment.timestamp()
    try:
        return now + parse_duration(value)
    except ValueError:
        raise ValueError("is neither a date nor a duration") from None


def parse_number(text: str) -> int | float:
    """A whole number if it is written as one, else a float."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def looks_like_range(text: str) -> bool:
    """Whether the author of ``text`` meant a range, well written or not."""
    return re.match(r"\s*[-+]?\d[\d.eE+-]*?\.\.", text) is not None


def parse_range(text: str) -> tuple[int | float, int | float, int | float]:
    """(first, last, step) of ``1..100`` or ``1..100..5``. The step is 1 if it is left out."""
    match = _RANGE.fullmatch(text)
    if not match:
        raise ValueError("is not a range")
    first, last = parse_number(match[1]), parse_number(match[2])
    if match[3] is None and not (isinstance(first, int) and isinstance(last, int)):
        raise ValueError("is a range of fractions and needs a step")
    return first, last, parse_number(match[3]) if match[3] else 1
