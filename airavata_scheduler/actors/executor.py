"""The executor: a Ray actor that holds the slots of one node and runs the worker agent in them."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from airavata_scheduler import __version__
from airavata_scheduler.actors.attempts import Attempts
from airavata_scheduler.actors.collector import spare_what_is_loaded
from airavata_scheduler.actors.gauges import ExecutorGauges
from airavata_scheduler.actors.tracebacks import plain_tracebacks
from airavata_scheduler.adapters.actor_calls.proxies import LifecycleProxy, SchedulerProxy
from airavata_scheduler.adapters.process_token import own_token
from airavata_scheduler.adapters.worker_channel.ray import RayWorkerChannel
from airavata_scheduler.platform.domain.messages import Extent, Hello
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.worker.agent import Agent

_LOG = structlog.get_logger(__name__)


class Executor:
    """One per node. It needs no database, only the service actors.

    ``scratch`` is a directory of the head; a node on which it cannot be made uses its own temporary directory.
    """

    def __init__(
        self,
        name: str,
        resource: str,
        node_id: str,
        capacity: Capacity,
        scratch: str,
        version: str,
        *,
        sync_outputs: bool,
    ) -> None:
        if version != __version__:
            message = (
                f"this node has airavata-scheduler {__version__}, the head has {version}: install the same version"
            )
            raise RuntimeError(message)
        plain_tracebacks()
        spare_what_is_loaded()
        self._resource = resource
        self._sync_outputs = sync_outputs
        self._scratch = _directory(Path(scratch), name)
        self._hello = Hello(
            name=name,
            resource=resource,
            host=socket.gethostname(),
            node_id=node_id,
            pid=os.getpid(),
            version=__version__,
            # Ray does not count disk space; what others write there later is not ours to promise.
            capacity=replace(capacity, disk_bytes=shutil.disk_usage(self._scratch).free),
            facts={"python": sys.version.split()[0], "process": own_token()},
        )
        self._gauges = ExecutorGauges(resource, self._hello.host)
        self._agent: Agent | None = None
        self._running: asyncio.Task[None] | None = None
        self._attempts = Attempts()
        self._left = False  #: drained or stopped; a new start of the node or the platform begins anew

    async def ping(self) -> dict[str, Any]:
        """Start the agent if it does not run, unless it was told to leave; what it does now."""
        if not self._left and (self._running is None or self._running.done()):
            self._running = asyncio.get_running_loop().create_task(self._run())
        agent = self._agent
        doing = agent.snapshot() if agent else None
        self._gauges.show(doing.running if doing else 0, doing.queued if doing else 0)
        return {
            "pid": os.getpid(),
            "version": __version__,
            "spawners": agent.spawner_pids() if agent else [],
            "running": doing.running if doing else 0,
            "problem": self._attempts.problem(time.monotonic()),
        }

    async def live_output(self, step_id: int, index: int, attempt: int) -> tuple[Extent, Extent] | None:
        """Where the output of a running attempt is, as far as it is written."""
        return self._agent.live_output(step_id, index, attempt) if self._agent else None

    async def stop(self) -> None:
        """End all tasks, give them back and leave."""
        if self._agent:
            self._agent.stop()
        if self._running:
            await self._running

    async def _run(self) -> None:
        channel = RayWorkerChannel(SchedulerProxy(), LifecycleProxy())
        self._agent = Agent(channel, self._hello, self._scratch, fsync=self._sync_outputs)
        self._attempts.started(time.monotonic())
        try:
            await self._agent.run()
            self._left = True
        except Exception as error:  # noqa: BLE001 - the keeper pings again, and that starts anew
            delay_s = self._attempts.failed(error, time.monotonic())
            _LOG.exception("the agent ended", again_in_s=delay_s)
            await asyncio.sleep(delay_s)

    def __repr__(self) -> str:
        doing = self._agent.snapshot() if self._agent else None
        return (
            f"Executor(resource={self._resource}, running={doing.running if doing else 0}/{self._hello.capacity.cpu:g})"
        )


def _directory(wanted: Path, name: str) -> Path:
    for root in (wanted, Path(tempfile.gettempdir()) / f"airavata-scratch-{os.getuid()}"):
        try:
            (root / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            _LOG.warning("scratch directory cannot be used", path=str(root), error=str(error))
        else:
            return root / name
    message = f"no scratch directory can be made, neither {wanted} nor below {tempfile.gettempdir()}"
    raise RuntimeError(message)
