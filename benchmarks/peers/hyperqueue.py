"""One job with a program for each, through HyperQueue's Python package and its own local cluster."""

from __future__ import annotations

import importlib
import os
import tempfile
import time
from collections.abc import Sequence


def run(command: Sequence[str], tasks: int, slots: int) -> float:
    """Its tasks write their output into files below the working directory, so that is a temporary one."""
    hyperqueue = importlib.import_module("hyperqueue")
    worker = importlib.import_module("hyperqueue.cluster").WorkerConfig(cores=slots)
    with tempfile.TemporaryDirectory() as directory, hyperqueue.LocalCluster() as cluster:
        os.chdir(directory)
        cluster.start_worker(worker)
        client = cluster.client()
        client.wait_for_jobs([client.submit(_job(hyperqueue, command, 20 * slots))])
        job = _job(hyperqueue, command, tasks)
        began = time.perf_counter()
        client.wait_for_jobs([client.submit(job)])
        took_s = time.perf_counter() - began
        os.chdir("/")
        return took_s


def _job(hyperqueue: object, command: Sequence[str], tasks: int) -> object:
    job = hyperqueue.Job()  # type: ignore[attr-defined]  # a package without types, in an environment of its own
    for _ in range(tasks):
        job.program(list(command))
    return job
