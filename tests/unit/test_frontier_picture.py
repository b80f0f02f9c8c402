"""The picture of the frontier, drawn from what the API answers."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from airavata_scheduler.cli.frontier_picture import draw, resource_totals

pytest.importorskip("matplotlib")


def point(number: int, finish_s: float, cost: float) -> dict[str, Any]:
    places = {"work": {"near": 10 * number, "far": 5}, "sum": {"near": 1}}
    span = {"finish_low_s": 0.5 * finish_s, "finish_high_s": 2 * finish_s}
    return {"number": number, "finish_s": finish_s, "cost": cost, "places": places, **span}


def found(points: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    times = {"planned_at": "2031-01-01T00:00:00Z", "deadline": None}
    return {"name": "sweep", "n_tasks": 20, "frontier": points, "budget": None, **times, **more}


@pytest.mark.parametrize("points", [[], [point(1, 3.0, 0.0)], [point(1, 9e5, 9.0), point(2, 9.5e5, 8.9)]])
@pytest.mark.parametrize("limits", [{}, {"budget": 9.0, "deadline": "2031-01-10T00:00:00Z"}])
def test_a_picture_is_drawn_however_many_plans_there_are(
    points: list[dict[str, Any]], limits: dict[str, Any], tmp_path: Path
) -> None:
    target = tmp_path / "frontier.png"
    draw(found(points, **limits), target)
    head = target.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", head[16:])
    assert width > height > 400


def test_tasks_of_all_steps_are_added_up() -> None:
    assert resource_totals(point(2, 1.0, 1.0)) == {"near": 21, "far": 5}
