from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from airavata_scheduler.worker.workdir import Workdir


def test_what_cannot_be_handed_over_is_removed_with_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = Workdir(str(tmp_path / "slot"))
    (tmp_path / "slot/large").write_text("x")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", full)
        with pytest.raises(OSError, match="No space"):
            directory.move_to(str(tmp_path / "aside"))
    assert [path.name for path in tmp_path.iterdir()] == ["slot"]
    directory.freshen()
    assert not list((tmp_path / "slot").iterdir())
    (tmp_path / "slot/next").write_text("x")
    directory.move_to(str(tmp_path / "aside"))
    assert (tmp_path / "aside/next").exists()
    assert not list((tmp_path / "slot").iterdir())
