"""Everything that the API calls. In production the six interfaces are proxies of actors, in tests plain objects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from airavata_scheduler.platform.domain.messages import Extent
from airavata_scheduler.platform.interfaces import (
    CredentialVault,
    DataMover,
    ExperimentOrchestrator,
    ResourceRegistry,
    TaskScheduler,
    WorkerLifecycle,
)
from airavata_scheduler.platform.ports.authorization import Authorization
from airavata_scheduler.platform.ports.clock import Clock
from airavata_scheduler.platform.ports.event_bus import EventBus
from airavata_scheduler.platform.ports.queries import Queries
from airavata_scheduler.platform.ports.rate_limit import RateLimit
from airavata_scheduler.platform.ports.storage import Storage
from airavata_scheduler.platform.services.identity import Identity

#: (worker id, step id, index, attempt) -> where standard output and error are, as far as they were written; None if the
#: worker does not hold that attempt.
LiveLogs = Callable[[int, int, int, int], Awaitable[tuple[Extent, Extent] | None]]


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """What a single request may be."""

    body_bytes: int = 32 * 1024 * 1024
    document_characters: int = 16 * 1024 * 1024
    log_poll_s: float = 0.5


@dataclass(frozen=True, slots=True)
class ApiServices:
    """``storage`` finds a storage resource by name (NotFoundError)."""

    queries: Queries
    identity: Identity
    authorization: Authorization
    rate_limit: RateLimit
    event_bus: EventBus
    storage: Callable[[str], Storage]
    orchestrator: ExperimentOrchestrator
    scheduler: TaskScheduler
    workers: WorkerLifecycle
    resources: ResourceRegistry
    vault: CredentialVault
    mover: DataMover
    version: str
    clock: Clock
    live_logs: LiveLogs | None = None
    limits: ApiLimits = field(default_factory=ApiLimits)
