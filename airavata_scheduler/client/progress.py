"""Showing how an experiment gets on: bars on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.table import Table

_LINE_EVERY_S = 2.0
_ACTIVE = ("assigned", "staging", "running", "collecting")
_ENDED = ("succeeded", "failed", "skipped", "canceled")


class View(Protocol):
    """Something that shows states of an experiment."""

    def show(self, state: Mapping[str, Any]) -> None:
        """The state has changed."""

    def notice(self, text: str) -> None:
        """Something about the connection."""


class _Silent:
    def show(self, state: Mapping[str, Any]) -> None:
        """Nothing."""

    def notice(self, text: str) -> None:
        """Nothing."""


class LineView:
    """Plain lines, at most one every two seconds but for changes of the status."""

    def __init__(self, file: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._file, self._clock = file, clock
        self._last_at, self._last_status, self._last_line = -_LINE_EVERY_S, "", ""

    def show(self, state: Mapping[str, Any]) -> None:
        """Print a line if there is something new to say."""
        line, now = summary_line(state), self._clock()
        due = state["status"] != self._last_status or now - self._last_at >= _LINE_EVERY_S
        if due and line != self._last_line:
            self._last_at, self._last_status, self._last_line = now, state["status"], line
            print(line, file=self._file, flush=True)

    def notice(self, text: str) -> None:
        """Print it."""
        print(text, file=self._file, flush=True)


class LiveView:
    """Bars and a table that are drawn over and over in place."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._state: Mapping[str, Any] | None = None

    def show(self, state: Mapping[str, Any]) -> None:
        """Draw it."""
        self._state = state
        self._live.update(render(state))

    def notice(self, text: str) -> None:
        """Keep it below the table until the next change."""
        self._live.update(render(self._state, text) if self._state else text)


@contextmanager
def progress_view(*, enabled: bool = True, file: TextIO | None = None) -> Iterator[View]:
    """The view that fits `file` (standard output if None), closed at the end."""
    out = file or sys.stdout
    if not enabled:
        yield _Silent()
    elif not out.isatty():
        yield LineView(out)
    else:
        from rich.live import Live  # noqa: PLC0415  (loaded when it is needed)

        with Live(console=_console(out), refresh_per_second=8) as live:
            yield LiveView(live)


def ended(counts: Mapping[str, int]) -> int:
    """How many tasks have ended in any way."""
    return sum(counts.get(key, 0) for key in _ENDED)


def active(counts: Mapping[str, int]) -> int:
    """How many tasks are with a worker."""
    return sum(counts.get(key, 0) for key in _ACTIVE)


def total(counts: Mapping[str, int]) -> int:
    """How many tasks there are."""
    return counts["total"] if "total" in counts else sum(counts.values())


def summary_line(state: Mapping[str, Any]) -> str:
    """Status and counts in one line."""
    counts = state["tasks"]
    share = f"{100 * ended(counts) // max(1, total(counts))}%"
    parts = [f"{ended(counts)} of {total(counts)} tasks done ({share})", f"{active(counts)} running"]
    parts += [f"{counts[key]} {key}" for key in ("failed", "skipped", "canceled") if counts.get(key)]
    if state.get("wall_s"):
        parts.append(duration(state["wall_s"]))
    reason = f" - {state['reason']}" if state.get("reason") else ""
    return f"{state['status']}  {', '.join(parts)}{reason}"


def duration(seconds: float) -> str:
    """12.3 s, 4 min 05 s, 2 h 03 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def render(state: Mapping[str, Any], notice: str = "") -> Group:
    """The live picture: a row for each step, and a line about the whole."""
    from rich.console import Group  # noqa: PLC0415  (loaded when it is needed)
    from rich.text import Text  # noqa: PLC0415  (loaded when it is needed)

    lines: list[Any] = [_step_table(state), Text(summary_line(state) + _time_left(state), style="bold")]
    return Group(*lines, *([Text(notice, style="yellow")] if notice else []))


def _step_table(state: Mapping[str, Any]) -> Table:
    from rich.progress_bar import ProgressBar  # noqa: PLC0415  (loaded when it is needed)
    from rich.table import Table  # noqa: PLC0415  (loaded when it is needed)

    table = Table(box=None, pad_edge=False, title=f"{state['name']}  {state['id']}", title_justify="left")
    table.add_column("step", no_wrap=True)
    table.add_column("", min_width=24)
    for name in ("done", "running", "waiting", "failed", "skipped"):
        table.add_column(name, justify="right")
    for step in state.get("steps") or [{"name": "all", "tasks": state["tasks"], "n": total(state["tasks"])}]:
        counts, n = step["tasks"], step.get("n") or total(step["tasks"])
        waiting = counts.get("pending", 0) + counts.get("ready", 0)
        failed = counts.get("failed", 0)
        cells = [f"{ended(counts)}/{n}", str(active(counts)), str(waiting)]
        cells += [f"[red]{failed}[/red]" if failed else "0", str(counts.get("skipped", 0) + counts.get("canceled", 0))]
        table.add_row(step["name"], ProgressBar(total=max(1, n), completed=ended(counts), width=32), *cells)
    return table


def _time_left(state: Mapping[str, Any]) -> str:
    """A guess from the rate so far, once there is one."""
    done, n, wall_s = ended(state["tasks"]), total(state["tasks"]), state.get("wall_s") or 0.0
    if state["status"] != "RUNNING" or done < 5 or wall_s < 2:
        return ""
    return f", {done / wall_s:.1f} tasks/s, about {duration((n - done) * wall_s / done)} left"


def _console(file: TextIO) -> Console:
    from rich.console import Console  # noqa: PLC0415  (loaded when it is needed)

    return Console(file=file, highlight=False)
