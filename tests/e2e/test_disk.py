"""The disk fills up in the middle of a sweep: what runs fails with that reason, and goes on when there is room."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Platform

pytestmark = pytest.mark.optional("mounting a file system needs root and may not be permitted")

_N = 400
#: Longer than an actor's lease.
_FULL_S = 15.0
_DOCUMENT = """
name: full
scripts: {{work: 'echo "$I" > "$OUT" && sleep 0.05'}}
tasks: {{work: {{script: work, task_inputs: {{I: 1..{n}}}, task_outputs: {{OUT: out.txt}}}}}}
"""


def _fill(path: Path) -> None:
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
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


def test_a_full_home_loses_nothing(on_a_small_disk: Platform, wait_until: Callable[..., None], tmp_path: Path) -> None:
    """Where the database cannot write either, nothing can be said of any task until there is room."""
    platform = on_a_small_disk
    if not platform.home.is_mount():
        pytest.skip("the home is no file system of its own: only root may mount one")
    experiment = platform.submit(_DOCUMENT.format(n=_N))
    wait_until(lambda: platform.counts(experiment)["succeeded"] >= 20, 60)
    supervisor = platform.pids()["supervisor"]
    until = time.monotonic() + _FULL_S
    while time.monotonic() < until:
        _fill(platform.home / "filling")  # again: a database that starts anew frees what it had kept in reserve
        time.sleep(0.5)
    (platform.home / "filling").unlink()
    assert platform.counts(experiment)["succeeded"] < _N, "it was over before the disk was full: make it longer"
    end = platform.watch(experiment)
    assert (end["status"], end["tasks"]["succeeded"]) == ("SUCCEEDED", _N)
    platform.experiment("download", experiment, "--output", str(tmp_path / "out"))
    found = {int(p.parent.name): p.read_text() for p in (tmp_path / "out").rglob("out.txt")}
    assert found == {i: f"{i + 1}\n" for i in range(_N)}
    platform.heal()
    assert platform.pids()["supervisor"] == supervisor
