"""Which control groups are taken for abandoned. Directories stand for groups: neither goes while something is in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from airavata_scheduler.worker import cgroups
from airavata_scheduler.worker.cgroups import Base

AGE_S = 3600.0


@pytest.fixture
def base(tmp_path: Path) -> Base:
    for controller in ("memory", "pids"):
        (tmp_path / controller / "airavata-own").mkdir(parents=True)
    return {name: str(tmp_path / name / "airavata-own") for name in ("memory", "pids")} | {"version": "1"}


def make(base: Base, worker: str, *, alive: bool, age_s: float = AGE_S) -> list[Path]:
    """Groups of another worker: one of its spawner, one of a slot."""
    pids, memory = (Path(base[name]).parent / f"airavata-{worker}" for name in ("pids", "memory"))
    (pids / "spawner-0").mkdir(parents=True)
    (memory / "slot-0").mkdir(parents=True)
    if alive:
        (pids / "spawner-0" / "cgroup.procs").write_text("4711\n")
    for group in (pids, memory):
        then = group.stat().st_mtime - age_s
        os.utime(group, (then, then))
    return [pids, memory]


def test_groups_of_a_killed_worker_are_removed_under_every_controller(base: Base) -> None:
    groups = make(base, "killed", alive=False)
    cgroups.remove_abandoned(base)
    assert not any(group.exists() for group in groups)
    assert Path(base["pids"]).is_dir()


def test_groups_of_a_worker_with_a_spawner_stay_with_the_empty_ones_of_its_slots(base: Base) -> None:
    _, memory = make(base, "alive", alive=True)
    cgroups.remove_abandoned(base)
    assert (memory / "slot-0").is_dir()


def test_groups_of_a_worker_that_is_about_to_start_its_spawners_stay(base: Base) -> None:
    groups = make(base, "young", alive=False, age_s=0.0)
    cgroups.remove_abandoned(base)
    assert all(group.is_dir() for group in groups)


def test_groups_of_others_stay(base: Base) -> None:
    other = Path(base["pids"]).parent / "system.slice"
    other.mkdir()
    os.utime(other, (0, 0))
    cgroups.remove_abandoned(base)
    assert other.is_dir()


def test_nothing_is_removed_where_no_group_tells_who_lives(base: Base) -> None:
    groups = make(base, "killed", alive=False)
    del base["pids"]
    cgroups.remove_abandoned(base)
    assert all(group.is_dir() for group in groups)
