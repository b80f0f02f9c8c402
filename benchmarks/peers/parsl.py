"""One app call of Parsl's high-throughput executor for each."""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Sequence

from benchmarks.peers.call import call


def run(command: Sequence[str], tasks: int, slots: int) -> float:
    """With as many worker processes as slots."""
    parsl = importlib.import_module("parsl")
    executors = importlib.import_module("parsl.executors")
    executor = executors.HighThroughputExecutor(label="bench", address="127.0.0.1", max_workers_per_node=slots)
    with tempfile.TemporaryDirectory() as directory:
        parsl.load(parsl.config.Config(executors=[executor], run_dir=directory))
        try:
            app = parsl.python_app(call)
            for future in [app(command) for _ in range(20 * slots)]:
                future.result()
            began = time.perf_counter()
            for future in [app(command) for _ in range(tasks)]:
                future.result()
            return time.perf_counter() - began
        finally:
            parsl.dfk().cleanup()
            parsl.clear()
