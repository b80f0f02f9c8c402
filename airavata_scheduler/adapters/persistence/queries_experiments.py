"""Experiments as they are shown, and what happened to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airavata_scheduler.adapters.persistence.reading import (
    STATE_NAMES,
    Reader,
    count_of,
    decode_cursor,
    encode_cursor,
    epoch,
)
from airavata_scheduler.platform.domain.errors import NotFoundError
from airavata_scheduler.platform.domain.states import ExperimentState, TaskState
from airavata_scheduler.platform.domain.views import EventView, ExperimentView, Page, StepView
from airavata_scheduler.platform.ports.queries import ExperimentFilter

_TIMES = ("created_at", "submitted_at", "started_at", "finished_at", "deadline")
_PLAIN = (
    "id",
    "name",
    "project",
    "owner",
    "status",
    "priority",
    "hard_deadline",
    "budget",
    "cost",
    "cpu_s",
    "description",
    "tags",
    "reason",
    "derived_from",
    "version",
)
_COLUMNS = ", ".join([f"e.{name}" for name in _PLAIN] + [f"{epoch(f'e.{name}')} AS {name}" for name in _TIMES])
_COUNTS = ", ".join(f"{count_of(state)} AS {STATE_NAMES[state]}" for state in TaskState)
_SUMS = ", ".join(f"coalesce(sum({count_of(state)}), 0)::bigint AS {STATE_NAMES[state]}" for state in TaskState)

_PAGE = f"""
SELECT e.seq, {_COLUMNS}, x.*
FROM (SELECT * FROM experiments e WHERE {{where}} ORDER BY e.seq DESC LIMIT :limit) e
LEFT JOIN LATERAL (
  SELECT coalesce(sum(s.n), 0)::bigint AS total, {_SUMS}
  FROM steps s LEFT JOIN step_counts c ON c.step_id = s.id WHERE s.experiment = e.id
) x ON true
ORDER BY e.seq DESC
"""
_ONE = f"""
SELECT {_COLUMNS}, coalesce((
  SELECT json_agg(to_json(x) ORDER BY x.position) FROM (
    SELECT s.id AS step_id, s.name, s.position, s.n, s.needs || s.follows AS needs, {_COUNTS}
    FROM steps s LEFT JOIN step_counts c ON c.step_id = s.id WHERE s.experiment = e.id
  ) x), '[]'::json) AS steps
FROM experiments e WHERE e.id = :id
"""
_EVENTS = f"""
SELECT e.seq, e.kind, {epoch("e.at")} AS at, e.experiment, e.project, e.data
FROM events e WHERE e.seq > :after{{where}} ORDER BY e.seq LIMIT :limit
"""


def missing(experiment: str) -> NotFoundError:
    """The error for an experiment that is not there."""
    return NotFoundError(
        f"there is no experiment {experiment!r}", path="experiment", remedy="list them with `airavata experiment list`"
    )


def _conditions(where: ExperimentFilter) -> tuple[list[str], dict[str, Any]]:
    tests: dict[str, tuple[str, Any]] = {
        "visible": ("e.project = ANY(:visible)", None if where.visible is None else list(where.visible)),
        "project": ("e.project = :project", where.project),
        "owner": ("e.owner = :owner", where.owner),
        "statuses": ("e.status = ANY(:statuses)", [s.value for s in where.statuses] or None),
        "name": ("position(lower(:name) IN lower(e.name)) > 0", where.name),
        "tag": (":tag = ANY(e.tags)", where.tag),
        "created_after": ("e.created_at > :created_after", where.created_after),
        "created_before": ("e.created_at < :created_before", where.created_before),
    }
    given = {name: test for name, test in tests.items() if test[1] is not None}
    return [condition for condition, _ in given.values()], {name: value for name, (_, value) in given.items()}


def _counts(row: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(row[name]) for name in STATE_NAMES}


def _view(row: Mapping[str, Any], counts: Mapping[str, int], steps: tuple[StepView, ...] = ()) -> ExperimentView:
    fields = {name: row[name] for name in (*_PLAIN, *_TIMES)}
    fields |= {"status": ExperimentState(row["status"]), "tags": tuple(row["tags"])}
    return ExperimentView(**fields, counts=counts, steps=steps)


def _steps(found: Sequence[Mapping[str, Any]]) -> tuple[StepView, ...]:
    names = {row["step_id"]: row["name"] for row in found}
    return tuple(
        StepView(
            step_id=row["step_id"],
            name=row["name"],
            position=row["position"],
            n=row["n"],
            counts={"total": row["n"], **_counts(row)},
            needs=tuple(dict.fromkeys(names[need] for need in row["needs"] if need in names)),
        )
        for row in found
    )


class ExperimentQueries(Reader):
    """The part of the port that is about experiments."""

    async def experiments(self, where: ExperimentFilter, limit: int, cursor: str | None) -> Page[ExperimentView]:
        conditions, values = _conditions(where)
        if cursor is not None:
            conditions.append("e.seq < :before")
            values["before"] = decode_cursor(cursor, int)[0]
        statement = _PAGE.format(where=" AND ".join(conditions) or "true")
        found = await self.rows(statement, {**values, "limit": limit + 1})
        items = [_view(row, {"total": row["total"], **_counts(row)}) for row in found[:limit]]
        return Page(items, encode_cursor(found[limit - 1]["seq"]) if len(found) > limit else None)

    async def experiment(self, experiment: str) -> ExperimentView:
        row = await self.row(_ONE, {"id": experiment})
        if row is None:
            raise missing(experiment)
        steps = _steps(row["steps"])
        counts = {name: sum(step.counts[name] for step in steps) for name in ("total", *STATE_NAMES)}
        return _view(row, counts, steps)

    async def project_of(self, experiment: str) -> str | None:
        row = await self.row("SELECT project FROM experiments WHERE id = :id", {"id": experiment})
        return None if row is None else str(row["project"])

    async def known_key(self, owner: str, idempotency_key: str) -> bool:
        statement = "SELECT id FROM experiments WHERE owner = :owner AND idempotency_key = :key"
        return await self.row(statement, {"owner": owner, "key": idempotency_key}) is not None

    async def document(self, experiment: str) -> Mapping[str, Any]:
        row = await self.row("SELECT document FROM experiments WHERE id = :id", {"id": experiment})
        if row is None:
            raise missing(experiment)
        return dict(row["document"])

    async def events(
        self, after: int, limit: int, *, experiment: str | None = None, visible: Sequence[str] | None = None
    ) -> Sequence[EventView]:
        where, values = "", {"after": after, "limit": limit}
        if experiment is not None:
            where += " AND e.experiment = :experiment"
        if visible is not None:
            where += " AND e.project = ANY(:visible)"
        given: dict[str, Any] = {**values, **({} if experiment is None else {"experiment": experiment})}
        given |= {} if visible is None else {"visible": list(visible)}
        return [EventView(**row) for row in await self.rows(_EVENTS.format(where=where), given)]

    async def last_event(self) -> int:
        row = await self.row("SELECT coalesce(max(seq), 0) AS seq FROM events")
        return 0 if row is None else int(row["seq"])
