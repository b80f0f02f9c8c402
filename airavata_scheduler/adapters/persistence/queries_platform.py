"""Workers, resources, storages, and the numbers for metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airavata_scheduler.adapters.persistence.reading import STATE_NAMES, Reader, count_of, epoch
from airavata_scheduler.platform.domain.errors import NotFoundError
from airavata_scheduler.platform.domain.request import Capacity, most_of_each
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.platform.domain.views import ResourceView, StorageView, WorkerView
from airavata_scheduler.platform.ports.queries import LiveTotals

_PING_S = 2.0
_HELD = "(SELECT count(*) FROM tasks t WHERE t.worker_id = w.id AND t.state BETWEEN 2 AND 5)"
_LIVE = "w.state IN ('live', 'draining')"
_WORKERS = f"""
SELECT w.id, w.name, r.name AS resource, w.host, w.node_id, w.pid, w.state, w.capacity, {_HELD} AS running,
  {epoch("w.registered_at")} AS registered_at, {epoch("w.heartbeat_at")} AS heartbeat_at, w.version
FROM workers w JOIN resources r ON r.id = w.resource_id WHERE {{where}} ORDER BY w.id DESC LIMIT 10000
"""
_RESOURCES = f"""
SELECT r.name, r.kind, r.enabled, r.price_per_hour, r.gpu_price_per_hour, r.speed, r.labels, r.bandwidth_bytes_per_s,
  r.egress_price_per_gb,
  coalesce((SELECT json_agg(json_build_object('capacity', w.capacity, 'running', {_HELD}))
    FROM workers w WHERE w.resource_id = r.id AND {_LIVE}), '[]'::json) AS workers
FROM resources r WHERE {{where}} ORDER BY r.name
"""
_OPEN = ", ".join(f"coalesce(sum({count_of(state)}), 0)::bigint AS {STATE_NAMES[state]}" for state in TaskState)
_TOTALS = f"""
SELECT
  (SELECT row_to_json(x) FROM (SELECT {_OPEN} FROM experiments e JOIN steps s ON s.experiment = e.id
    LEFT JOIN step_counts c ON c.step_id = s.id WHERE e.finished_at IS NULL) x) AS tasks,
  (SELECT row_to_json(x) FROM (SELECT {_OPEN} FROM steps s LEFT JOIN step_counts c ON c.step_id = s.id) x) AS every,
  (SELECT json_object_agg(status, n)
    FROM (SELECT status, count(*) AS n FROM experiments GROUP BY status) x) AS experiments,
  (SELECT json_object_agg(state, n) FROM (SELECT state, count(*) AS n FROM workers GROUP BY state) x) AS workers,
  (SELECT json_object_agg(name, json_build_array(cpus, held)) FROM (
    SELECT r.name, coalesce(sum((w.capacity->>'cpu')::float8), 0) AS cpus, coalesce(sum({_HELD}), 0)::bigint AS held
    FROM resources r LEFT JOIN workers w ON w.resource_id = r.id AND {_LIVE} GROUP BY r.name) x) AS resources,
  (SELECT json_build_array(count(*), coalesce(sum(extract(epoch FROM finished_at - submitted_at)), 0)) FROM experiments
    WHERE finished_at IS NOT NULL) AS duration_s
"""
_PLAIN = (
    "name", "kind", "enabled", "price_per_hour", "gpu_price_per_hour", "speed", "labels", "bandwidth_bytes_per_s",
    "egress_price_per_gb",
)  # fmt: skip
_TERMINAL = ("succeeded", "failed", "skipped", "canceled")


def _resource(row: Mapping[str, Any]) -> ResourceView:
    capacities = [Capacity.from_json(worker["capacity"]) for worker in row["workers"]]
    total = Capacity(cpu=0.0)
    for capacity in capacities:
        total = total.plus(capacity)
    return ResourceView(
        **{name: row[name] for name in _PLAIN},
        state="disabled" if not row["enabled"] else "up" if capacities else "down",
        capacity=total,
        largest=most_of_each(capacities),
        workers=len(capacities),
        running=sum(worker["running"] for worker in row["workers"]),
    )


class PlatformQueries(Reader):
    """The part of the port that is about the platform itself."""

    async def ping(self) -> None:
        await self.rows("SELECT 1 AS one", silence_s=_PING_S)

    async def resources(self) -> Sequence[ResourceView]:
        return [_resource(row) for row in await self.rows(_RESOURCES.format(where="true"))]

    async def resource(self, name: str) -> ResourceView:
        row = await self.row(_RESOURCES.format(where="r.name = :name"), {"name": name})
        if row is None:
            raise NotFoundError(f"there is no resource {name!r}", path="name", remedy="list them at /api/v1/resources")
        return _resource(row)

    async def workers(self, *, ended: bool = False) -> Sequence[WorkerView]:
        found = await self.rows(_WORKERS.format(where="true" if ended else _LIVE))
        return [WorkerView(**{**row, "capacity": Capacity.from_json(row["capacity"])}) for row in found]

    async def storages(self) -> Sequence[StorageView]:
        return [StorageView(**row) for row in await self.rows("SELECT name, kind, root FROM storages ORDER BY name")]

    async def totals(self) -> LiveTotals:
        row = await self.row(_TOTALS) or {}
        every = row["every"] or {}
        return LiveTotals(
            tasks=row["tasks"] or {},
            experiments=row["experiments"] or {},
            finished_tasks={name: int(every.get(name, 0)) for name in _TERMINAL},
            workers=row["workers"] or {},
            resources={name: (float(cpus), int(held)) for name, (cpus, held) in (row["resources"] or {}).items()},
            duration_s=(int(row["duration_s"][0]), float(row["duration_s"][1])),
        )
