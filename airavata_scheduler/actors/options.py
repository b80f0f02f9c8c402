"""How our actors are made: lifetimes, restarts and places, in one table.

A service actor is detached, restarted for ever, costs no cpu, and stays on the node of the database's socket. A restart
runs `__init__` only, so nothing is lost that was not in the database.
"""

from __future__ import annotations

from typing import Any

from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from airavata_scheduler.adapters.actor_calls.handles import NAMESPACE

#: Long polls of workers wait inside their actor; each holds a place.
_CONCURRENCY = 10_000


def service_options(name: str, node_id: str) -> dict[str, Any]:
    """Options of a service actor."""
    return {
        "name": name,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "max_restarts": -1,
        "max_task_retries": 0,
        "num_cpus": 0,
        "max_concurrency": _CONCURRENCY,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False),
    }


def executor_options(name: str, node_id: str, cpus: float, gpus: float) -> dict[str, Any]:
    """Options of an executor: it reserves the node's slots, so that Ray does not hand them out a second time."""
    return {**service_options(name, node_id), "num_cpus": cpus, "num_gpus": gpus}
