"""The composition root: settings -> adapters -> services. The only file that knows which adapter serves which port.

The stores are imported by everybody; a service and its adapters only where they are made, as each has a process of its
own, and the time that imports take is most of what it needs to be back after its death.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncEngine

from airavata_scheduler.adapters.clock import SystemClock
from airavata_scheduler.adapters.persistence.engine import create_engine
from airavata_scheduler.adapters.persistence.experiment_store import PostgresExperimentStore
from airavata_scheduler.adapters.persistence.leases import PostgresLeases
from airavata_scheduler.adapters.persistence.queries import SqlQueries
from airavata_scheduler.adapters.persistence.resource_store import PostgresResourceStore
from airavata_scheduler.adapters.persistence.task_store import PostgresTaskStore
from airavata_scheduler.adapters.persistence.worker_store import PostgresWorkerStore
from airavata_scheduler.adapters.storage.posix import PosixStorage
from airavata_scheduler.platform.domain.errors import NotFoundError
from airavata_scheduler.platform.domain.messages import StorageLocation
from airavata_scheduler.platform.interfaces import Alarm, DataMover
from airavata_scheduler.platform.ports.repository import Fence, ReportOutcome
from airavata_scheduler.platform.ports.storage import Storage
from airavata_scheduler.settings import Settings

if TYPE_CHECKING:
    from airavata_scheduler.adapters.authorization.embedded import EmbeddedAuthorization
    from airavata_scheduler.adapters.event_bus.postgres import PostgresEventBus
    from airavata_scheduler.adapters.persistence.identity import SqlIdentityStore
    from airavata_scheduler.adapters.rate_limit.limits_adapter import LimitsRateLimit
    from airavata_scheduler.platform.services.data import DataMoverService
    from airavata_scheduler.platform.services.identity import Identity
    from airavata_scheduler.platform.services.orchestrator import ExperimentOrchestratorService
    from airavata_scheduler.platform.services.registry import ResourceRegistryService
    from airavata_scheduler.platform.services.scheduler import TaskSchedulerService
    from airavata_scheduler.platform.services.vault import CredentialVaultService
    from airavata_scheduler.platform.services.workers import WorkerLifecycleService

DEFAULT_STORAGE = "default"


@dataclass(frozen=True, slots=True)
class Stores:
    """Everything that a process needs of the database and the storage resource; connections are made when used."""

    settings: Settings
    engine: AsyncEngine
    clock: SystemClock
    leases: PostgresLeases
    tasks: PostgresTaskStore
    experiments: PostgresExperimentStore
    workers: PostgresWorkerStore
    resources: PostgresResourceStore
    queries: SqlQueries
    storage: Storage


def open_stores(settings: Settings) -> Stores:
    """The adapters over the database and storage of an installation."""
    engine = create_engine(settings.sqlalchemy_url(), pool_size=settings.database_pool_size)
    return Stores(
        settings=settings,
        engine=engine,
        clock=SystemClock(),
        leases=PostgresLeases(engine),
        tasks=PostgresTaskStore(engine),
        experiments=PostgresExperimentStore(engine),
        workers=PostgresWorkerStore(engine),
        resources=PostgresResourceStore(engine),
        queries=SqlQueries(engine),
        storage=PosixStorage(settings.storage_dir),
    )


def default_storage(settings: Settings) -> StorageLocation:
    """The storage resource that every installation has."""
    return StorageLocation(DEFAULT_STORAGE, "posix", str(settings.storage_dir))


async def _unheeded(_: Sequence[Alarm]) -> None:
    """Where nobody listens to alarms."""


def task_scheduler(
    stores: Stores,
    fence: Fence,
    on_advance: Callable[[ReportOutcome], None],
    heed: Callable[[Sequence[Alarm]], Awaitable[None]] = _unheeded,
) -> TaskSchedulerService:
    """The service behind the `TaskScheduler` actor."""
    from airavata_scheduler.adapters.solver.child import ChildSolver
    from airavata_scheduler.platform.services.scheduler import TaskSchedulerService

    quick, thorough = ChildSolver(), ChildSolver(background=True)
    return TaskSchedulerService(
        stores.tasks, fence, quick, stores.storage, stores.clock, on_advance, heed, thinker=thorough
    )


def worker_lifecycle(
    stores: Stores, fence: Fence, on_change: Callable[[], None], on_advance: Callable[[ReportOutcome], None]
) -> WorkerLifecycleService:
    """The service behind the `WorkerLifecycle` actor."""
    from airavata_scheduler.adapters.process_token import has_ended
    from airavata_scheduler.platform.services.workers import WorkerLifecycleService

    return WorkerLifecycleService(
        stores.workers,
        stores.experiments,
        stores.queries,
        fence,
        stores.clock,
        lease_s=stores.settings.worker_lease_s,
        heartbeat_s=stores.settings.heartbeat_s,
        outage_s=stores.settings.database_outage_s,
        has_ended=has_ended,
        on_change=on_change,
        on_advance=on_advance,
    )


def experiment_orchestrator(
    stores: Stores,
    fence: Fence,
    mover: DataMover,
    explain: Callable[[int], Awaitable[Mapping[str, Any]]],
    wake_scheduler: Callable[[], None],
    notify_canceled: Callable[[Sequence[int]], Awaitable[None]],
) -> ExperimentOrchestratorService:
    """The service behind the `ExperimentOrchestrator` actor."""
    from airavata_scheduler.adapters.solver.child import ChildSolver
    from airavata_scheduler.platform.services.explain import Explainer
    from airavata_scheduler.platform.services.orchestrator import ExperimentOrchestratorService
    from airavata_scheduler.platform.services.preview import Previewer

    return ExperimentOrchestratorService(
        stores.experiments,
        stores.tasks,
        stores.queries,
        mover,
        Explainer(stores.queries, stores.clock, explain),
        fence,
        stores.clock,
        wake_scheduler=wake_scheduler,
        notify_canceled=notify_canceled,
        previewer=Previewer(stores.tasks, ChildSolver()),
    )


def resource_registry(stores: Stores, on_change: Callable[[], None]) -> ResourceRegistryService:
    """The service behind the `ResourceRegistry` actor."""
    from airavata_scheduler.platform.services.registry import ResourceRegistryService

    return ResourceRegistryService(stores.resources, stores.experiments, stores.queries, on_change)


def credential_vault(stores: Stores) -> CredentialVaultService:
    """The service behind the `CredentialVault` actor."""
    from airavata_scheduler.adapters.persistence.secret_store import PostgresSecretStore
    from airavata_scheduler.adapters.vault.embedded import EmbeddedVault
    from airavata_scheduler.platform.services.vault import CredentialVaultService

    key = bytes.fromhex(stores.settings.paths.vault_key.read_text().strip())
    return CredentialVaultService(
        stores.resources, stores.experiments, EmbeddedVault(PostgresSecretStore(stores.engine), key)
    )


def data_mover(stores: Stores) -> DataMoverService:
    """The service behind the `DataMover` actor."""
    from airavata_scheduler.platform.services.data import DataMoverService

    return DataMoverService(stores.tasks, stores.experiments, stores.queries, stores.storage, stores.clock)


def identity_store(stores: Stores) -> SqlIdentityStore:
    """Accounts, projects and tokens as stored."""
    from airavata_scheduler.adapters.persistence.identity import SqlIdentityStore

    return SqlIdentityStore(stores.engine)


def identity(stores: Stores) -> tuple[Identity, LimitsRateLimit]:
    """Users, passwords and tokens, and the limit on how often they may be tried."""
    from airavata_scheduler.adapters.rate_limit.limits_adapter import LimitsRateLimit
    from airavata_scheduler.platform.services.identity import Identity, IdentitySettings

    settings = stores.settings
    rate_limit = LimitsRateLimit()
    key = settings.paths.jwt_key.read_text().strip()
    options = IdentitySettings(key=key, access_s=settings.access_token_s, refresh_s=settings.refresh_token_s)
    return Identity(identity_store(stores), rate_limit, stores.clock, options), rate_limit


def authorization(stores: Stores) -> EmbeddedAuthorization:
    """Who may do what."""
    from airavata_scheduler.adapters.authorization.embedded import EmbeddedAuthorization

    return EmbeddedAuthorization(stores.engine)


def event_bus(stores: Stores) -> PostgresEventBus:
    """Nudges between processes."""
    from airavata_scheduler.adapters.event_bus.postgres import PostgresEventBus

    return PostgresEventBus(stores.settings.conninfo())


def storage_by_name(stores: Stores) -> Callable[[str], Storage]:
    """Finds a storage resource by its name."""

    def find(name: str) -> Storage:
        if name == DEFAULT_STORAGE:
            return stores.storage
        message = f"there is no storage resource {name!r}"
        raise NotFoundError(message)

    return find
