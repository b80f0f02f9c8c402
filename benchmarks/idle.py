"""CPU of our processes while nothing happens, and what of it is Ray's own.

Our service actors, executors and replicas are processes of Ray's: its library polls for signals, metrics and messages
in each of them, whether or not we do anything. How much that is, is measured, not guessed: beside ours, in the same
cluster and during the same seconds, run actors that are empty. What such a one uses is taken off once for each of our
processes that is an actor. The keeper is a driver of Ray's, and so is this process, which sleeps meanwhile: what it
uses is taken off the keeper. Ray's core, its dashboard and Serve's controller and proxy are not ours at all.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from airavata_scheduler.launcher import processes
from airavata_scheduler.launcher.environment import child_environment
from airavata_scheduler.settings import Settings
from benchmarks.live import RAYS_OWN, LivePlatform
from benchmarks.proc import cpu_s, used_since

EMPTY = 3  #: so many empty actors; the median counts
_ACTORS = ("svc.", "exec.", "api.")


@dataclass(frozen=True, slots=True)
class Idle:
    """All in per cent of a core. ``empty`` is an actor without content, ``driver`` a driver that does nothing.

    ``serve`` are Serve's controller and proxy.
    """

    by_process: Mapping[str, float]
    empty: float
    driver: float
    serve: float

    @property
    def whole(self) -> float:
        """All of our processes."""
        return sum(self.by_process.values())

    @property
    def own(self) -> float:
        """Without what Ray's library would use there without us."""
        return sum(max(0.0, percent - self._rays_part(name)) for name, percent in self.by_process.items())

    def _rays_part(self, name: str) -> float:
        if name == "keeper":
            return self.driver
        return self.empty if name.startswith(_ACTORS) and "/spawner-" not in name else 0.0


def idle(platform: LivePlatform, settle_s: float, watched_s: float) -> Idle:
    """Watch a platform that has nothing to do, after it has come to rest."""
    with empty_actors(platform) as empty:
        time.sleep(settle_s)
        listed = platform.airavata("status")["processes"]
        serve = {process["pid"] for process in listed if process["name"].startswith(RAYS_OWN)}
        groups = platform.named_pids()
        before = cpu_s({pid for pids in groups.values() for pid in pids} | serve | empty | {os.getpid()})
        began = time.monotonic()
        time.sleep(watched_s)
        per_cent = 100 / (time.monotonic() - began)
        return Idle(
            {name: per_cent * used_since(before, pids) for name, pids in groups.items()},
            statistics.median(per_cent * used_since(before, [pid]) for pid in empty),
            per_cent * used_since(before, [os.getpid()]),
            per_cent * used_since(before, serve),
        )


class Empty:
    """An asynchronous actor, as ours are, that does nothing."""

    async def pid(self) -> int:
        """Whom to watch."""
        return os.getpid()


@contextlib.contextmanager
def empty_actors(platform: LivePlatform) -> Iterator[set[int]]:
    """Pids of empty actors in the platform's cluster; they end with the block."""
    settings = Settings.from_run(platform.home)
    os.environ.update({key: text for key, text in child_environment(settings).items() if key.startswith("RAY_")})
    ray = importlib.import_module("ray")
    address = processes.read_json(settings.paths.ray_state)["address"]
    ray.init(address=address, namespace="bench", log_to_driver=False, configure_logging=False)
    try:
        made = [ray.remote(num_cpus=0, max_concurrency=10_000)(Empty).remote() for _ in range(EMPTY)]
        yield set(ray.get([actor.pid.remote() for actor in made]))
    finally:
        ray.shutdown()
