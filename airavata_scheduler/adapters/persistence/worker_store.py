"""`WorkerStore` on PostgreSQL: registration, leases on the database's clock, and the tasks of lost workers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa
from psycopg.types.json import Jsonb
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from airavata_scheduler.adapters.persistence.engine import transaction
from airavata_scheduler.adapters.persistence.events import append
from airavata_scheduler.adapters.persistence.leases import check_fence
from airavata_scheduler.adapters.persistence.reports import record
from airavata_scheduler.platform.domain.compiled import CompiledStep
from airavata_scheduler.platform.domain.errors import NotFoundError
from airavata_scheduler.platform.domain.events import Event
from airavata_scheduler.platform.domain.failures import Cause
from airavata_scheduler.platform.domain.messages import Hello, Report, StorageLocation
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.platform.domain.workers import LastLook, over_before
from airavata_scheduler.platform.ports.repository import Charge, Fence, ReportContext, ReportOutcome, WorkerOrders

_ENSURE_RESOURCE = sa.text("""
INSERT INTO resources (name, kind) VALUES (:name, :kind) ON CONFLICT (name) DO NOTHING
""")
# A worker of the same name was on the same place: it is gone, or cut off and about to be fenced by its new successor.
_REPLACE = sa.text("""
UPDATE workers SET state = 'lost', lease_until = least(lease_until, clock_timestamp())
WHERE name = :name AND state IN ('live', 'draining')
""")
_REGISTER = sa.text("""
INSERT INTO workers (name, resource_id, host, node_id, pid, version, capacity, facts, lease_until)
SELECT :name, r.id, :host, :node_id, :pid, :version, :capacity, :facts,
       clock_timestamp() + make_interval(secs => :lease_s)
FROM resources r WHERE r.name = :resource RETURNING id
""")
_RENEW = sa.text("""
UPDATE workers SET heartbeat_at = clock_timestamp(),
  lease_until = clock_timestamp() + make_interval(secs => :lease_s)
WHERE id = :id AND state IN ('live', 'draining') RETURNING state = 'draining'
""")
_CANCELED = sa.text("SELECT step_id, index, attempt FROM tasks WHERE worker_id = :id AND state = 9")
_RECALLED = sa.text("""
SELECT DISTINCT t.step_id FROM tasks t JOIN steps s ON s.id = t.step_id JOIN experiments e ON e.id = s.experiment
WHERE t.worker_id = :id AND t.state = 2 AND e.status = 'PAUSED' ORDER BY t.step_id
""")
_DRAIN = sa.text("UPDATE workers SET state = 'draining' WHERE id = :id AND state IN ('live', 'draining')")
_LEAVE = sa.text("UPDATE workers SET state = 'gone', lease_until = clock_timestamp() WHERE id = :id")
_GIVE_BACK = sa.text("UPDATE tasks SET state = 1, worker_id = NULL WHERE worker_id = :id AND state BETWEEN 2 AND 5")
_FORGET_CANCELED = sa.text("UPDATE tasks SET worker_id = NULL WHERE worker_id = ANY(:ids) AND state = 9")
_NOW = sa.text("SELECT extract(epoch FROM clock_timestamp())::float8")
# As of the time that was just read: should the server freeze in between, it must not count.
_EXPIRE = sa.text("""
UPDATE workers SET state = 'lost'
WHERE state IN ('live', 'draining') AND (lease_until < to_timestamp(:end) OR id = ANY(CAST(:ended AS bigint[])))
RETURNING id
""")
_EXTEND = sa.text("""
UPDATE workers SET lease_until = to_timestamp(:now) + make_interval(secs => :lease_s)
WHERE state IN ('live', 'draining') AND (:everybody OR id = ANY(CAST(:promised AS bigint[])))
""")
_PROCESSES = sa.text("""
SELECT id, facts ->> 'process' FROM workers WHERE state IN ('live', 'draining') AND facts ? 'process'
""")
_HELD = sa.text("SELECT count(*) FROM tasks WHERE worker_id = ANY(:ids) AND state BETWEEN 2 AND 5")
# Also those whose successor registered, and whatever an interrupted reaper left.
_ORPHANS = sa.text("""
SELECT t.worker_id, t.step_id, t.index, t.attempt, t.state FROM tasks t JOIN workers w ON w.id = t.worker_id
WHERE t.state BETWEEN 2 AND 5 AND w.state IN ('lost', 'gone')
""")
_NOT_STARTED = sa.text("""
UPDATE tasks t SET state = 1, worker_id = NULL
FROM workers w WHERE w.id = t.worker_id AND w.state IN ('lost', 'gone') AND t.state = 2
""")
_LOST_CANCELED = sa.text("""
UPDATE tasks t SET worker_id = NULL
FROM workers w WHERE w.id = t.worker_id AND w.state IN ('lost', 'gone') AND t.state = 9
""")
#: Part of a lease that the statement of a heartbeat may take, and the one that decides who is lost.
_PATIENCE = 10
_LIST_S = 2.0
_CONTEXTS = sa.text("SELECT id, spec, experiment FROM steps WHERE id = ANY(:ids)")
_STORAGES = sa.text("SELECT name, kind, root FROM storages ORDER BY name")
_ENSURE_STORAGE = sa.text("""
INSERT INTO storages (name, kind, root) VALUES (:name, :kind, :root)
ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, root = excluded.root
""")


class PostgresWorkerStore:
    """`WorkerStore` over an engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def register_worker(self, hello: Hello, lease_s: float) -> int:
        """A new id; the resource is made if there is none of its name."""

        async def work(connection: AsyncConnection) -> int:
            await connection.execute(_ENSURE_RESOURCE, {"name": hello.resource, "kind": "ray"})
            await connection.execute(_REPLACE, {"name": hello.name})
            values = {
                "name": hello.name,
                "resource": hello.resource,
                "host": hello.host,
                "node_id": hello.node_id,
                "pid": hello.pid,
                "version": hello.version,
                "capacity": Jsonb(hello.capacity.to_json()),
                "facts": Jsonb(dict(hello.facts)),
                "lease_s": lease_s,
            }
            worker_id: int = (await connection.execute(_REGISTER, values)).scalar_one()
            data = {"worker": worker_id, "name": hello.name, "resource": hello.resource}
            await append(connection, [Event("worker.registered", None, None, data)])
            return worker_id

        return await transaction(self._engine, work)

    async def renew_worker(self, worker_id: int, lease_s: float) -> WorkerOrders:
        """A worker that was not reaped yet goes on."""

        async def work(connection: AsyncConnection) -> WorkerOrders:
            draining = (await connection.execute(_RENEW, {"id": worker_id, "lease_s": lease_s})).scalar()
            if draining is None:
                raise _unknown(worker_id)
            canceled = await connection.execute(_CANCELED, {"id": worker_id})
            recalled = await connection.execute(_RECALLED, {"id": worker_id})
            keys = tuple((row[0], row[1], row[2]) for row in canceled)
            return WorkerOrders(draining, keys, tuple(recalled.scalars()))

        patience_s = lease_s / _PATIENCE
        return await transaction(self._engine, work, limit_s=patience_s, silence_s=patience_s)

    async def drain_worker(self, worker_id: int) -> None:
        """It claims nothing more from now on."""

        async def work(connection: AsyncConnection) -> None:
            if not (await connection.execute(_DRAIN, {"id": worker_id})).rowcount:
                raise _unknown(worker_id)

        await transaction(self._engine, work)

    async def remove_worker(self, worker_id: int) -> int:
        """It said goodbye, after it ended its processes."""

        async def work(connection: AsyncConnection) -> int:
            await connection.execute(_LEAVE, {"id": worker_id})
            await connection.execute(_FORGET_CANCELED, {"ids": [worker_id]})
            back = (await connection.execute(_GIVE_BACK, {"id": worker_id})).rowcount
            await append(connection, [Event("worker.left", None, None, {"worker": worker_id, "returned": back})])
            return back

        return await transaction(self._engine, work)

    async def worker_processes(self) -> Mapping[int, str]:
        """See the port."""

        async def work(connection: AsyncConnection) -> Mapping[int, str]:
            return {row[0]: row[1] for row in await connection.execute(_PROCESSES)}

        return await transaction(self._engine, work, limit_s=0.0, silence_s=_LIST_S)

    async def expire_workers(
        self,
        fence: Fence,
        lease_s: float,
        last: LastLook | None,
        ended: Collection[int] = (),
        promised: Collection[int] = (),
    ) -> tuple[Sequence[int], float]:
        """One short transaction that is not repeated: what was true before the database was away is not true after."""

        async def work(connection: AsyncConnection) -> tuple[Sequence[int], float]:
            await check_fence(connection, fence)
            now: float = (await connection.execute(_NOW)).scalar_one()
            everybody = last is None or not last.was_regular(now, lease_s)
            if everybody or promised:
                extended = {"now": now, "lease_s": lease_s, "everybody": everybody, "promised": list(promised)}
                await connection.execute(_EXTEND, extended)
            values = {"end": over_before(now, lease_s), "ended": list(ended)}
            lost = (await connection.execute(_EXPIRE, values)).scalars().all()
            if lost:
                held: int = (await connection.execute(_HELD, {"ids": list(lost)})).scalar_one()
                await append(connection, [Event("worker.lost", None, None, {"workers": list(lost), "tasks": held})])
            return lost, now

        return await transaction(self._engine, work, limit_s=0.0, silence_s=lease_s / _PATIENCE)

    async def take_back(self, fence: Fence) -> tuple[int, ReportOutcome]:
        """Tasks that never started go back as they are; attempts under way end as `worker_lost`."""

        async def work(connection: AsyncConnection) -> tuple[int, ReportOutcome]:
            await check_fence(connection, fence)
            back = (await connection.execute(_NOT_STARTED)).rowcount
            await connection.execute(_LOST_CANCELED)
            orphans = [tuple(row) for row in await connection.execute(_ORPHANS)]
            return back + len(orphans), await _lose(connection, orphans)

        return await transaction(self._engine, work)

    async def storages(self) -> list[StorageLocation]:
        """Every storage resource."""

        async def work(connection: AsyncConnection) -> list[StorageLocation]:
            return [StorageLocation(**row) for row in (await connection.execute(_STORAGES)).mappings()]

        return await transaction(self._engine, work)

    async def ensure_storage(self, location: StorageLocation) -> None:
        """Make or move a storage resource."""

        async def work(connection: AsyncConnection) -> None:
            values = {"name": location.name, "kind": location.kind, "root": location.root}
            await connection.execute(_ENSURE_STORAGE, values)

        await transaction(self._engine, work)


async def _lose(connection: AsyncConnection, orphans: Sequence[tuple[int, ...]]) -> ReportOutcome:
    """Report attempts as lost in the name of the workers that cannot."""
    contexts = {
        row[0]: ReportContext(row[2], step.retry, step.program.request.cpu, step.program.request.gpu)
        for row in await connection.execute(_CONTEXTS, {"ids": sorted({orphan[1] for orphan in orphans})})
        for step in (CompiledStep.from_json(row[1]),)
    }
    total = ReportOutcome()
    for worker_id in sorted({orphan[0] for orphan in orphans}):
        reports = [
            Report(step_id, index, attempt, TaskState.FAILED, Cause.WORKER_LOST, "the worker that ran it was lost")
            for worker, step_id, index, attempt, _ in orphans
            if worker == worker_id
        ]
        outcome = await record(connection, worker_id, reports, contexts, Charge(0.0, 0.0))
        total.manifests_due.extend(outcome.manifests_due)
        total.finished.extend(outcome.finished)
    return total


def _unknown(worker_id: int) -> NotFoundError:
    return NotFoundError(
        f"worker {worker_id} is not known, or its lease was taken away", remedy="the worker must register again"
    )
