"""How a run looks in a notebook."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

_COLORS = {"succeeded": "#2e8b57", "failed": "#c0392b", "skipped": "#b0a060", "canceled": "#888888"}


def run_as_html(state: Mapping[str, Any]) -> str:
    """Name, status, and for each step a bar of how its tasks ended."""
    head = f"<b>{html.escape(str(state.get('name', '')))}</b> <code>{html.escape(str(state['id']))}</code>"
    rows = [_row("all", state.get("tasks", {})), *(_row(s["name"], s["tasks"]) for s in state.get("steps", ()))]
    return f"{head} &middot; {html.escape(str(state['status']))}<table>{''.join(rows)}</table>"


def _row(name: str, counts: Mapping[str, int]) -> str:
    total = max(1, counts.get("total") or sum(counts.values()))
    parts = "".join(
        f'<div style="width:{100 * counts.get(key, 0) / total:.2f}%;background:{color};height:10px"></div>'
        for key, color in _COLORS.items()
    )
    done = " ".join(f"{counts[key]} {key}" for key in _COLORS if counts.get(key)) or "nothing ended yet"
    bar = f'<div style="display:flex;width:240px;background:#e8e8e8">{parts}</div>'
    return f"<tr><td>{html.escape(str(name))}</td><td>{bar}</td><td>{done} of {total}</td></tr>"
