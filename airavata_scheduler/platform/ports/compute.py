"""Where workers come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from airavata_scheduler.platform.domain.request import Capacity


@dataclass(frozen=True, slots=True)
class Node:
    """A machine on which a worker runs or could run."""

    node_id: str
    host: str
    alive: bool
    capacity: Capacity
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunningWorker:
    """A worker as the compute resource sees it."""

    name: str
    node_id: str
    pid: int
    facts: dict[str, Any] = field(default_factory=dict)


class Compute(Protocol):
    """One kind of compute resource."""

    kind: str

    def nodes(self) -> Sequence[Node]:
        """What is there now."""
        ...

    def executors(self) -> Mapping[str, Any]:
        """One worker on each living node: name -> handle. Made where there is none."""
        ...

    def forget(self, name: str) -> None:
        """This worker is gone for good: the next look makes another one in its place."""
        ...

    def running(self, pings: Mapping[str, Mapping[str, Any]]) -> Sequence[RunningWorker]:
        """The workers that answered; ``pings``: name -> answer, which has at least ``pid``."""
        ...
