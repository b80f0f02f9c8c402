"""Files that hold the output of many tasks: pieces, the cap, and going on in another file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from airavata_scheduler.worker.segments import SEGMENT_BYTES, Segment

CAP = 1000


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    return Segment(str(tmp_path), 7, "0.0", "out")


def test_pieces_follow_each_other(segment: Segment) -> None:
    os.write(segment.fd, b"first")
    first = segment.finish(CAP)
    nothing = segment.finish(CAP)
    os.write(segment.fd, b"second")
    second = segment.finish(CAP)
    assert first == (".segments/7/0.0-0.out", 0, 5, False)
    assert nothing is None
    assert second == (".segments/7/0.0-0.out", 5, 6, False)
    assert segment.read(second, CAP) == b"second"


def test_what_is_beyond_the_cap_is_cut_and_said_to_be(segment: Segment) -> None:
    os.write(segment.fd, b"x" * 3000)
    segment.curb(CAP)
    os.write(segment.fd, b"y" * 10)  # the task goes on where it was cut
    piece = segment.finish(CAP)
    assert piece is not None
    assert piece[3]
    text = segment.read(piece, 3000)
    assert text.startswith(b"x" * CAP)
    assert b"output cut here" in text


def test_a_successor_goes_on_behind_what_is_there(segment: Segment, tmp_path: Path) -> None:
    os.write(segment.fd, b"before")
    again = Segment(str(tmp_path), 7, "0.0", "out")
    os.write(again.fd, b"after")
    assert again.finish(CAP) == (".segments/7/0.0-0.out", 6, 5, False)


def test_a_full_file_is_followed_by_another(segment: Segment) -> None:
    old = fill(segment)
    segment.rotate()
    os.write(segment.fd, b"new")
    assert segment.finish(CAP) == (".segments/7/0.0-1.out", 0, 3, False)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(old)


def test_without_room_for_another_file_it_goes_on_as_before(segment: Segment, tmp_path: Path) -> None:
    fill(segment)
    obstacle = tmp_path / ".segments/7/0.0-1.out"
    obstacle.mkdir()
    for _ in range(2):  # a second try must not find a closed file
        with pytest.raises(IsADirectoryError):
            segment.rotate()
    os.write(segment.fd, b"still")
    assert segment.finish(CAP) == (".segments/7/0.0-0.out", SEGMENT_BYTES, 5, False)
    obstacle.rmdir()
    segment.rotate()
    assert segment.key == ".segments/7/0.0-1.out"


def fill(segment: Segment) -> int:
    """Its file descriptor until it is rotated."""
    os.ftruncate(segment.fd, SEGMENT_BYTES)
    segment.finish(SEGMENT_BYTES)
    assert segment.full()
    return segment.fd
