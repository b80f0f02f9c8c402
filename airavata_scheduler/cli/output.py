"""Writing for people: tables on a terminal, aligned columns without control codes elsewhere."""

from __future__ import annotations

import datetime as dt
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

Cell = Callable[[Mapping[str, Any]], Any]
_WIDEST_CELL = 60


def print_table(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Any], *, empty: str, file: TextIO | None = None
) -> None:
    """`columns`: heading -> key of the row, or `Cell` function of it. Without rows the sentence `empty` is printed."""
    out = file or sys.stdout
    if not rows:
        print(empty, file=out)
        return
    cells = [[_cell(row, what) for what in columns.values()] for row in rows]
    if out.isatty():
        _rich_table(list(columns), cells, out)
    else:
        _plain_table(list(columns), cells, out)


def print_fields(fields: Mapping[str, Any], file: TextIO | None = None) -> None:
    """`name   value` lines; what is None or empty is left out."""
    shown = {name: text(value) for name, value in fields.items() if value not in (None, "", [], {}, ())}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        print(f"{name:<{width}}  {value}", file=file or sys.stdout)


def text(value: Any) -> str:
    """A value as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={text(item)}" for key, item in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(text(item) for item in value) or "-"
    return str(value)


def moment(value: Any) -> str:
    """A time as the API writes it (ISO 8601, or seconds since the epoch), in the local zone."""
    if value in (None, ""):
        return "-"
    try:
        if isinstance(value, int | float):
            at = dt.datetime.fromtimestamp(value, tz=dt.UTC)
        else:
            at = dt.datetime.fromisoformat(str(value))
    except ValueError:
        return str(value)
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def size(size_bytes: float) -> str:
    """999 B, 1.5 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def amounts(capacity: Mapping[str, Any]) -> str:
    """What a task asks for or a resource has, without what it has nothing of: `cpu 2, memory 4.0 GB, matlab 1`."""
    units: Mapping[str, Callable[[Any], str]] = {"memory_bytes": size, "disk_bytes": size}
    flat = {**{kind: amount for kind, amount in capacity.items() if kind != "named"}, **capacity.get("named", {})}
    return ", ".join(
        f"{kind.removesuffix('_bytes')} {units.get(kind, '{:g}'.format)(amount)}"
        for kind, amount in flat.items()
        if amount
    )


def _cell(row: Mapping[str, Any], what: str | Cell) -> str:
    value = text(row.get(what) if isinstance(what, str) else what(row)).replace("\n", " ")
    return value if len(value) <= _WIDEST_CELL else value[: _WIDEST_CELL - 3] + "..."


def _plain_table(heads: list[str], cells: list[list[str]], out: TextIO) -> None:
    widths = [max(len(row[i]) for row in [heads, *cells]) for i in range(len(heads))]
    for row in [heads, *cells]:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip(), file=out)


def _rich_table(heads: list[str], cells: list[list[str]], out: TextIO) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in cells:
        table.add_row(*(escape(cell) for cell in row))
    Console(file=out, highlight=False, width=shutil.get_terminal_size().columns).print(table)
