"""Calls of a named actor that survive its death: looked up again, bounded in time, with errors of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from airavata_scheduler.platform.domain.errors import UnavailableError

NAMESPACE = "airavata"
#: Actor names; the six services.
REGISTRY = "svc.resource-registry"
VAULT = "svc.credential-vault"
ORCHESTRATOR = "svc.experiment-orchestrator"
SCHEDULER = "svc.task-scheduler"
MOVER = "svc.data-mover"
LIFECYCLE = "svc.worker-lifecycle"

_MARGIN_S = 30.0


class ActorHandle:
    """One named actor. Every method of it can be called with `call`; `tell` does not wait and never fails."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._handle: Any = None
        self._told: set[asyncio.Task[None]] = set()

    async def call(self, method: str, *args: Any, wait_s: float = 0.0, label: str = "") -> Any:
        """The method's answer; its own errors as they were raised.

        UnavailableError when the actor does not answer within ``wait_s`` and a margin: nobody knows then whether the
        method ran, so it must be one that may be repeated.
        """
        try:
            handle = await self._find()
            remote = getattr(handle, method)
            reference = (remote.options(name=label) if label else remote).remote(*args)
            # Not `wait_for`: Python 3.11's loses a cancellation that comes together with the answer.
            async with asyncio.timeout(wait_s + _MARGIN_S):
                return await reference
        except RayTaskError as error:
            raise error.cause from error
        except (RayError, TimeoutError, ValueError) as error:
            if isinstance(error, RayActorError | ValueError):
                self._handle = None
            message = f"{self.name} does not answer"
            raise UnavailableError(message, retry_after_s=2.0, remedy="it is restarted by itself; try again") from error

    def tell(self, method: str, *args: Any) -> None:
        """A nudge: sent, and forgotten. From the event loop's thread only."""
        task = asyncio.get_running_loop().create_task(self._tell(method, args))
        self._told.add(task)
        task.add_done_callback(self._told.discard)

    async def _tell(self, method: str, args: tuple[Any, ...]) -> None:
        try:
            await self.call(method, *args)
        except UnavailableError:
            # Whoever restarts looks at the database first and finds what this was about.
            self._handle = None

    async def _find(self) -> Any:
        if self._handle is None:
            # A round trip to Ray's control store, which must not stall the loop.
            self._handle = await asyncio.to_thread(ray.get_actor, self.name, NAMESPACE)
        return self._handle


def nudge(handle: ActorHandle, method: str) -> Callable[..., None]:
    """A callback that tells an actor to look, whatever it is called with."""

    def tell(*_: object) -> None:
        handle.tell(method)

    return tell
