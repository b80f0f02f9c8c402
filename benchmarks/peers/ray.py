"""One Ray task with `subprocess.run` for each."""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence

from benchmarks.peers.call import call


def run(command: Sequence[str], tasks: int, slots: int) -> float:
    """On a cluster of its own."""
    ray = importlib.import_module("ray")
    ray.init(address="local", num_cpus=slots, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        remote = ray.remote(num_cpus=1, max_retries=0)(call)
        ray.get([remote.remote(command) for _ in range(20 * slots)])
        began = time.perf_counter()
        ray.get([remote.remote(command) for _ in range(tasks)])
        return time.perf_counter() - began
    finally:
        ray.shutdown()
