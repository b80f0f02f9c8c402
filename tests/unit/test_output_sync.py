"""Outputs that must survive a power cut are on the disk under their final names before anybody hears of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from airavata_scheduler.worker.outputs import collect


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    paths: list[str] = []

    def fsync(fd: int) -> None:
        paths.append(str(Path(f"/proc/self/fd/{fd}").readlink()))

    monkeypatch.setattr(os, "fsync", fsync)
    return paths


def _collect(path: Path, fsync: bool) -> Path:
    work, root = path / "work", path / "storage"
    (work / "tree/deep").mkdir(parents=True)
    (work / "tree/deep/b.txt").write_text("b")
    (work / "a.txt").write_text("a")
    root.mkdir()
    program = {"outputs": {"A": "a.txt", "T": "tree"}, "output_prefix": "experiment/step", "fsync": fsync}
    collect(str(work), program, (1, 2, 3), str(root), 7)
    return root


def test_files_and_the_names_that_lead_to_them_are_synced(tmp_path: Path, synced: list[str]) -> None:
    root = _collect(tmp_path, fsync=True)
    final = root / "experiment/step/2/3"
    assert (final / "a.txt").read_text() == "a"
    assert {Path(path).name for path in synced} >= {"a.txt", "b.txt", "tree", "deep"}
    published = synced.index(str(final.parent))
    assert not any("a.txt" in path or "b.txt" in path for path in synced[published:]), "contents come before names"
    assert synced[published:] == [str(parent) for parent in (final.parent, *final.parent.parents[:3])]
    assert synced[-1] == str(root)


def test_nothing_is_synced_unless_that_is_asked_for(tmp_path: Path, synced: list[str]) -> None:
    _collect(tmp_path, fsync=False)
    assert synced == []
