"""One future of Dask's distributed scheduler for each, on a cluster of processes."""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence

from benchmarks.peers.call import call


def run(command: Sequence[str], tasks: int, slots: int) -> float:
    """`pure=False`, or Dask would run equal calls once."""
    distributed = importlib.import_module("distributed")
    with (
        distributed.LocalCluster(n_workers=slots, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.gather([client.submit(call, command, pure=False) for _ in range(20 * slots)])
        began = time.perf_counter()
        client.gather([client.submit(call, command, pure=False) for _ in range(tasks)])
        return time.perf_counter() - began
