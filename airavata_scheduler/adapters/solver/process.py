"""The child of `child.py`: reads snapshots, writes plans or frontiers, ends when its parent does.

A request is ("plan", snapshot, now, limits) or ("frontier", snapshot, now, experiment, points, limits); the answer is
(False, what was asked for) or (True, the error: a PlannerError, or in words). With the argument `BACKGROUND` it leaves
the processor to others.
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from airavata_scheduler.scheduler_core import PlannerError, frontier, plan

BACKGROUND = "--background"
_NICENESS = 10
_LENGTH = struct.Struct("<Q")
_KINDS: Mapping[str, Callable[..., Any]] = {"plan": plan, "frontier": frontier}


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer each request, with the text of an error if it must be."""
    while head := requests.read(_LENGTH.size):
        (length,) = _LENGTH.unpack(head)
        kind, *arguments = pickle.loads(requests.read(length))  # noqa: S301 - from our own parent
        data = pickle.dumps(_answer(kind, arguments), protocol=5)
        answers.write(_LENGTH.pack(len(data)) + data)
        answers.flush()


def _answer(kind: str, arguments: list[Any]) -> tuple[bool, object]:
    try:
        return False, _KINDS[kind](*arguments)
    except PlannerError as error:
        return True, error
    except Exception:  # noqa: BLE001 - whatever a solver throws must reach the parent as words
        return True, traceback.format_exc()


if __name__ == "__main__":
    if BACKGROUND in sys.argv:
        os.nice(_NICENESS)
    serve(sys.stdin.buffer, sys.stdout.buffer)
