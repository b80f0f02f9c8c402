"""The storage fills up in the middle of a sweep: what runs fails with that reason, and goes on when there is room."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Platform

pytestmark = pytest.mark.optional("mounting a file system needs root and may not be permitted")

_N = 400
_DOCUMENT = """
name: full
scripts: {{work: 'echo "$I" > "$OUT"; sleep 0.05'}}
tasks: {{work: {{script: work, task_inputs: {{I: 1..{n}}}, task_outputs: {{OUT: out.txt}}}}}}
"""


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 16)):
            pass


def test_a_sweep_goes_on_when_there_is_room_again(platform: Platform, wait_until: Callable[..., None]) -> None:
    storage = platform.home / "storage"
    if not storage.is_mount():
        pytest.skip("the storage is no file system of its own: only root may mount one")
    experiment = platform.submit(_DOCUMENT.format(n=_N))
    tried_again: list[int] = []

    def failed() -> bool:
        """Whether attempts failed that are to be repeated: such tasks wait for that, some of them twice."""
        rows = platform.experiment("tasks", experiment, "--limit", "500")["items"]
        tried_again[:] = [row["index"] for row in rows if row["attempt"] > 1]
        return len(tried_again) > 2

    wait_until(lambda: platform.counts(experiment)["succeeded"] >= 20, 60)
    before = platform.pids()
    _fill(storage / "filling")
    try:
        wait_until(failed, 60)
        state = platform.status()
        assert (state["problems"], platform.pids()) == ([], before)
        assert platform.counts(experiment)["failed"] == 0
    finally:
        (storage / "filling").unlink()
    end = platform.watch(experiment)
    assert (end["status"], end["tasks"]["succeeded"]) == ("SUCCEEDED", _N)
    with platform.api() as api:
        task: Any = api.get(f"/experiments/{experiment}/tasks/work/{tried_again[0]}").raise_for_status().json()
    first = task["attempts"][0]
    assert first["cause"] == "infrastructure"
    assert f"disk full: {storage}" in first["message"]
