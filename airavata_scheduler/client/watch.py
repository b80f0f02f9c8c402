"""Following one experiment until it has ended, through restarts of the platform."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

from airavata_scheduler.client.errors import UnavailableError, UnreachableError
from airavata_scheduler.client.events import EventStream
from airavata_scheduler.client.transport import Transport

FINISHED = frozenset({"SUCCEEDED", "PARTIAL", "FAILED", "CANCELED"})
PATIENCE_S = 900.0  #: the platform may be away for so long before following it gives up
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_PAUSE_WITH_EVENTS_S = 2.0
_SHORTEST_GAP_S = 0.5  #: between two looks at mere progress: each costs the platform as much as some tasks


def follow(
    transport: Transport,
    experiment: str,
    *,
    events: EventStream | None = None,
    notice: Callable[[str], None] = lambda _text: None,
    patience_s: float = PATIENCE_S,
    timeout_s: float = inf,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[dict[str, Any]]:
    """The experiment's state whenever it has changed, the last time when it has ended; no more after `timeout_s`.

    Raises `UnreachableError` when nothing answers for `patience_s`; other `ApiError`s at once.
    """
    stream = events or EventStream(transport, experiment, sleep=sleep, clock=clock)
    etag: str | None = None
    pause_s, last_answer, lost = _FIRST_PAUSE_S, clock(), False
    end = last_answer + timeout_s
    try:
        while True:
            try:
                response = transport.request(
                    "GET",
                    f"/experiments/{experiment}",
                    headers={"If-None-Match": etag} if etag else None,
                    patience_s=2.0,
                )
            except (UnreachableError, UnavailableError):
                now = clock()
                if now - last_answer > patience_s:
                    raise
                if now >= end:
                    return
                if not lost:
                    notice("connection lost, retrying")
                lost = True
                sleep(min(_LONGEST_PAUSE_S, end - now))
                continue
            if lost:
                notice("connected again")
            last_answer, lost = clock(), False
            if response.status_code != 304:
                etag = response.headers.get("ETag")
                state: dict[str, Any] = response.json()
                yield state
                if state["status"] in FINISHED:
                    return
            if last_answer >= end:
                return
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 1.5)
            _wait(stream, pause_s, end, clock)
    finally:
        stream.close()


def _wait(stream: EventStream, pause_s: float, end: float, clock: Callable[[], float]) -> None:
    """Until something has happened, or it is time to look anyway; a burst of progress is worth one look."""
    happened = stream.wait(min(_PAUSE_WITH_EVENTS_S if stream.connected else pause_s, end - clock()))
    look_at = min(end, clock() + _SHORTEST_GAP_S)
    while _only_progress(happened) and (left_s := look_at - clock()) > 0:
        happened = stream.wait(left_s) or happened


def _only_progress(events: list[dict[str, Any]]) -> bool:
    kinds = {str(event.get("kind")) for event in events}
    return bool(kinds) and not any(kind.startswith("experiment.") and kind != "experiment.progress" for kind in kinds)
