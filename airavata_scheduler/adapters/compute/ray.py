"""The Ray nodes of one cluster as a compute resource: one executor on each living node with a CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray

from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.ports.compute import Node, RunningWorker

#: A node label that names the resource a node belongs to, so that several nodes can share a price and a speed.
RESOURCE_LABEL = "airavata-resource"
HEAD_RESOURCE = "local"
_RAY_KINDS = frozenset({"CPU", "GPU", "TPU", "memory", "object_store_memory"})

#: Ray does not say the type of this one.
_ray_nodes: Callable[[], list[dict[str, Any]]] = ray.nodes

#: (worker name, resource name, node) -> handle of a running or starting executor
Spawn = Callable[[str, str, Node], Any]


class RayCompute:
    """`Compute` over the cluster that this process is connected to. Blocking: not for an event loop.

    ``spawn`` makes an executor, or finds the one of that name.
    """

    kind = "ray"

    def __init__(self, spawn: Spawn) -> None:
        self._spawn = spawn
        self._executors: dict[str, tuple[str, Any]] = {}

    def nodes(self) -> list[Node]:
        """All nodes that Ray knows, dead ones included."""
        return [_node(entry) for entry in _ray_nodes()]

    def executors(self) -> Mapping[str, Any]:
        """Name -> handle, of the executors on living nodes. Those of dead nodes are forgotten and never restarted."""
        living = {node.node_id: node for node in self.nodes() if node.alive and node.capacity.cpu >= 1}
        for name, (node_id, handle) in list(self._executors.items()):
            if node_id not in living:
                ray.kill(handle, no_restart=True)
                del self._executors[name]
        for node in living.values():
            name = executor_name(node)
            if name not in self._executors:
                self._executors[name] = (node.node_id, self._spawn(name, resource_name(node), node))
        return {name: handle for name, (_, handle) in self._executors.items()}

    def forget(self, name: str) -> None:
        """Make this executor anew at the next look."""
        self._executors.pop(name, None)

    def running(self, pings: Mapping[str, Mapping[str, Any]]) -> Sequence[RunningWorker]:
        """The workers that answered."""
        return [
            RunningWorker(name, self._executors[name][0], answer["pid"], dict(answer))
            for name, answer in pings.items()
            if name in self._executors
        ]


def _node(entry: Mapping[str, Any]) -> Node:
    resources = entry.get("Resources", {})
    capacity = Capacity(
        cpu=float(resources.get("CPU", 0.0)),
        memory_bytes=int(resources.get("memory", 0)),
        gpu=float(resources.get("GPU", 0.0)),
        named={name: float(amount) for name, amount in resources.items() if _is_named(name)},
    )
    labels = {**entry.get("Labels", {}), "address": entry["NodeManagerAddress"]}
    if any(name == "node:__internal_head__" for name in resources):
        labels["head"] = "true"
    return Node(entry["NodeID"], entry["NodeManagerHostname"], entry["Alive"], capacity, labels)


def _is_named(name: str) -> bool:
    """Whether it is a licence or the like, and none of the kinds that Ray has itself."""
    return name not in _RAY_KINDS and not name.startswith(("node:", "accelerator_type:"))


def resource_name(node: Node) -> str:
    """The label's value, `local` for the head, otherwise a name of the node's address."""
    if RESOURCE_LABEL in node.labels:
        return node.labels[RESOURCE_LABEL]
    return HEAD_RESOURCE if node.labels.get("head") else f"node-{node.labels['address']}"


def executor_name(node: Node) -> str:
    """As the Ray dashboard shows it; a node that comes back is a new one and gets a new name."""
    return f"exec.{resource_name(node)}.{node.host}-{node.node_id[:6]}"
