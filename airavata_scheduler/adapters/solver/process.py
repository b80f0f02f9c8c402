"""The child of `piped.py`: reads snapshots, writes plans, ends when its parent does."""

from __future__ import annotations

import pickle
import struct
import sys
import traceback
from typing import BinaryIO

from airavata_scheduler.scheduler_core import plan

_LENGTH = struct.Struct("<Q")


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer each request with a plan, or with the text of an error."""
    while head := requests.read(_LENGTH.size):
        (length,) = _LENGTH.unpack(head)
        snapshot, now, limits = pickle.loads(requests.read(length))  # noqa: S301 - from our own parent
        try:
            answer: object = plan(snapshot, now, limits)
        except Exception:  # noqa: BLE001 - whatever a solver throws must reach the parent as words
            answer = traceback.format_exc()
        data = pickle.dumps(answer, protocol=5)
        answers.write(_LENGTH.pack(len(data)) + data)
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
