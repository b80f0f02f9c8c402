"""Which control groups are taken for abandoned. Directories stand for groups: neither goes while something is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from airavata_scheduler.worker.abandoned_groups import remove_abandoned, remove_groups


@pytest.fixture
def mounts(tmp_path: Path) -> str:
    """Hierarchies of version 1, and a group of a login in which another worker was started."""
    for controller in ("memory", "pids"):
        (tmp_path / controller / "airavata-own").mkdir(parents=True)
    (tmp_path / "memory/login-7").mkdir()
    (tmp_path / "pids/airavata-own/spawner-0").mkdir()
    lines = [f"cgroup {tmp_path / name} cgroup rw,relatime,{name} 0 0\n" for name in ("memory", "pids")]
    (tmp_path / "mounts").write_text("".join(lines))
    return str(tmp_path / "mounts")


def make(root: Path, worker: str, *, alive: bool = False) -> list[Path]:
    """Groups of another worker: of a spawner, and of a slot below the login."""
    pids, memory = root / "pids" / f"airavata-{worker}", root / "memory/login-7" / f"airavata-{worker}"
    (pids / "spawner-0").mkdir(parents=True)
    (memory / "slot-0").mkdir(parents=True)
    if alive:
        (pids / "spawner-0" / "cgroup.procs").write_text("4711\n")
    return [pids, memory]


def test_groups_of_a_killed_worker_are_removed_wherever_they_are(tmp_path: Path, mounts: str) -> None:
    groups = make(tmp_path, "killed")
    remove_abandoned("own", mounts)
    assert not any(group.exists() for group in groups)
    assert (tmp_path / "pids/airavata-own/spawner-0").is_dir()


def test_groups_of_a_worker_with_a_spawner_stay_with_the_empty_ones_of_its_slots(tmp_path: Path, mounts: str) -> None:
    _, memory = make(tmp_path, "alive", alive=True)
    remove_abandoned("own", mounts)
    assert (memory / "slot-0").is_dir()


def test_groups_of_a_worker_that_has_started_no_spawner_stay(tmp_path: Path, mounts: str) -> None:
    young = tmp_path / "pids/airavata-young"
    young.mkdir()
    remove_abandoned("own", mounts)
    assert young.is_dir()


def test_groups_of_others_stay(tmp_path: Path, mounts: str) -> None:
    (tmp_path / "pids/system.slice/spawner-0").mkdir(parents=True)
    remove_abandoned("own", mounts)
    remove_groups(["system.slice"], mounts)
    assert (tmp_path / "pids/system.slice/spawner-0").is_dir()


def test_groups_are_removed_of_the_workers_that_are_named(tmp_path: Path, mounts: str) -> None:
    ended, other = make(tmp_path, "ended"), make(tmp_path, "other")
    remove_groups(["ended"], mounts)
    assert not any(group.exists() for group in ended)
    assert all(group.is_dir() for group in other)
