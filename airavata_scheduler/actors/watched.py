"""An actor as the keeper watches it: asked now and then, ended when it hangs, told apart from one that is gone."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import ray
import structlog
from ray.exceptions import RayActorError

_LOG = structlog.get_logger(__name__)
#: Who answered is not asked again for so long: on an idle platform pings are most of what happens.
_PING_EVERY_S = 3.0
PING_LIMIT_S = 10.0
_STOP_LIMIT_S = 5.0


class Watched:
    """An actor that is pinged. ``pid`` is that of its last answer; ``local`` if it is a process of this machine.

    ``method`` is what it is asked, and ``pid_of`` finds the process in the answer; ``pid`` is what is known beforehand.
    """

    def __init__(
        self,
        name: str,
        role: str,
        handle: Any,
        *,
        local: bool = True,
        method: str = "ping",
        pid_of: Callable[[Mapping[str, Any]], int] = itemgetter("pid"),
        pid: int = 0,
    ) -> None:
        self.name = name
        self.role = role
        self.handle = handle
        self.local = local
        self.pid = pid
        self._method = method
        self._pid_of = pid_of
        self.answer: Mapping[str, Any] = {}
        self._ping: Any = None
        self._since_s = 0.0
        self._next_s = 0.0
        self.healthy = False

    def look(self, now_s: float) -> bool:
        """Collect the answer to the ping under way and send the next. False if the actor is gone for good."""
        if self._ping is None:
            if now_s >= self._next_s or self._is_gone():
                self._ask(now_s)
            return True
        ready, _ = ray.wait([self._ping], timeout=0)
        if ready:
            return self._collect(now_s)
        if now_s - self._since_s > PING_LIMIT_S:
            self._end_hung()
        elif now_s - self._since_s > PING_LIMIT_S / 2:
            self.healthy = False
        return True

    def _collect(self, now_s: float) -> bool:
        try:
            self.answer = ray.get(self._ping)
            self.pid, self.healthy = self._pid_of(self.answer), True
            self._ping, self._next_s = None, now_s + _PING_EVERY_S
            return True
        except RayActorError as error:
            self.healthy = False
            if "no_restart" in str(error) or not _may_restart(error):
                return False
        except Exception as error:  # noqa: BLE001 - the actor's own error, of whatever kind, is part of the report
            self.healthy = False
            _LOG.warning("an actor is not well", actor=self.name, error=str(error)[:500])
        self._ask(now_s)
        return True

    def _ask(self, now_s: float) -> None:
        self._ping, self._since_s = getattr(self.handle, self._method).remote(), now_s

    def _is_gone(self) -> bool:
        """Whether its process has ended, as far as can be seen from here."""
        return self.local and self.pid != 0 and not Path(f"/proc/{self.pid}").exists()

    def _end_hung(self) -> None:
        _LOG.error("an actor does not answer and is killed", actor=self.name, pid=self.pid)
        self.healthy = False
        # A frozen process carries out no request to end itself, so on this machine it is the kernel that ends it.
        # The pid of one that was restarted since its last answer is not known.
        if self.local and self.pid and not self._is_gone():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        else:
            ray.kill(self.handle, no_restart=False)
        self._ping, self._next_s = None, 0.0

    def stop(self) -> None:
        """Ask it to end its work; RayError or TimeoutError when it does not."""
        ray.get(self.handle.stop.remote(), timeout=_STOP_LIMIT_S)

    def remove(self) -> None:
        """End its process for good."""
        ray.kill(self.handle, no_restart=True)


def _may_restart(error: RayActorError) -> bool:
    return type(error).__name__ == "ActorUnavailableError" or "restarting" in str(error).lower()
