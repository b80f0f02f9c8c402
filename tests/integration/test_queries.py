"""Reading from a real PostgreSQL: what is stored as ranges comes out as tasks."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pyarrow.csv
import pyarrow.parquet
import pytest
import sqlalchemy as sa

from airavata_scheduler.adapters.persistence.engine import create_engine
from airavata_scheduler.adapters.persistence.experiment_store import PostgresExperimentStore
from airavata_scheduler.adapters.persistence.queries import SqlQueries
from airavata_scheduler.platform.domain.axes import Steps, Values
from airavata_scheduler.platform.domain.compiled import CompiledExperiment, CompiledStep, ProgramTemplate
from airavata_scheduler.platform.domain.errors import InvalidRequestError, NotFoundError
from airavata_scheduler.platform.domain.failures import RetryPolicy
from airavata_scheduler.platform.domain.messages import Extent
from airavata_scheduler.platform.domain.states import ExperimentState, TaskState
from airavata_scheduler.platform.domain.sweep import Product, Sweep
from airavata_scheduler.platform.domain.views import TaskView
from airavata_scheduler.platform.ports.queries import ExperimentFilter
from airavata_scheduler.platform.ports.repository import NewExperiment
from airavata_scheduler.platform.services import results

S = TaskState


def step(position: int, n: int, **more: Any) -> CompiledStep:
    values: dict[str, Any] = {
        "name": f"s{position}",
        "sweep": Sweep(Product((Steps("X", 1, n),))),
        "foreach": (),
        "fan_out": n,
        "gather": (),
        "after": (),
        "references": {},
        "program": ProgramTemplate(command=("true",), results={"y": ("stdout", "/y")}),
        "retry": RetryPolicy(),
        "priority": 0,
        "time_s": None,
    }
    return CompiledStep(position=position, n=n, **{**values, **more})


class Stage:
    """An experiment store, the queries, and rows as a test wants them."""

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url)
        self.queries = SqlQueries(self.engine)

    async def run(self, statement: str, **given: Any) -> Sequence[Any]:
        async with self.engine.begin() as connection:
            found = await connection.execute(sa.text(statement), given)
            return found.all() if found.returns_rows else []

    async def submit(
        self, name: str, *steps: CompiledStep, project: str = "default", key: str | None = None
    ) -> list[int]:
        compiled = CompiledExperiment(
            name=f"the {name}", description="", tags=("red",), priority=0, deadline=None, budget=None, objective={},
            allow=(),
            deny=(), steps=steps,
        )  # fmt: skip
        new = NewExperiment(name, "admin", project, compiled, {"name": name}, idempotency_key=key)
        await PostgresExperimentStore(self.engine).insert(new)
        found = await self.run("SELECT id FROM steps WHERE experiment = :e ORDER BY position", e=name)
        return [row[0] for row in found]

    async def put(self, step_id: int, indexes: Sequence[int], state: TaskState, worker: int | None = None) -> None:
        await self.run(
            "INSERT INTO tasks (step_id, index, state, attempt, worker_id) "
            "SELECT :s, i, :state, 1, :w FROM unnest(:i) i",
            s=step_id, i=list(indexes), state=int(state), w=worker,
        )  # fmt: skip

    async def all_tasks(self, experiment: str, states: Sequence[TaskState] = (), limit: int = 7) -> list[TaskView]:
        found: list[TaskView] = []
        cursor = None
        while True:
            page = await self.queries.tasks(experiment, None, states, limit, cursor)
            assert len(page.items) <= limit
            found += page.items
            cursor = page.next
            if cursor is None:
                return found


@pytest.fixture
async def stage(own_database: str) -> AsyncIterator[Stage]:
    made = Stage(own_database)
    await made.run("INSERT INTO users (name, password_hash, admin) VALUES ('admin', '', true)")
    await made.run("INSERT INTO projects (name, owner) VALUES ('default', 'admin'), ('other', 'admin')")
    await made.run("INSERT INTO resources (name, kind) VALUES ('local', 'ray')")
    await made.run(
        """INSERT INTO workers (name, resource_id, host, node_id, pid, version, capacity, lease_until)
        SELECT 'w1', id, 'h', 'n', 1, '0', '{"cpu": 4, "memory_bytes": 10, "gpu": 0, "disk_bytes": 0, "named": {}}',
        clock_timestamp() + interval '1 hour' FROM resources"""
    )
    yield made
    await made.engine.dispose()


async def test_counts_of_ranges_and_rows_add_up(stage: Stage) -> None:
    first, _ = await stage.submit("e1", step(0, 1000), step(1, 10, after=(0,)))
    await stage.put(first, range(30), S.SUCCEEDED)
    await stage.put(first, [30], S.RUNNING)
    view = await stage.queries.experiment("e1")
    assert view.status is ExperimentState.RUNNING
    assert {k: v for k, v in view.counts.items() if v} == {
        "total": 1010,
        "succeeded": 30,
        "running": 1,
        "ready": 969,
        "pending": 10,
    }
    assert [s.needs for s in view.steps] == [(), ("s0",)]
    assert (await stage.queries.experiments(ExperimentFilter(), 10, None)).items[0].counts == view.counts


async def test_experiments_are_paged_newest_first_and_filtered(stage: Stage) -> None:
    for number in range(5):
        project = "other" if number == 3 else "default"
        await stage.submit(f"e{number}", step(0, 1), project=project, key=f"k{number}")
    seen, cursor = [], None
    while True:
        page = await stage.queries.experiments(ExperimentFilter(), 2, cursor)
        seen += [view.id for view in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert seen == ["e4", "e3", "e2", "e1", "e0"]

    async def ids(**where: Any) -> list[str]:
        return [v.id for v in (await stage.queries.experiments(ExperimentFilter(**where), 10, None)).items]

    assert await ids(visible=["other"]) == ["e3"]
    assert await ids(visible=[]) == []
    assert await ids(name="THE E2") == ["e2"]
    assert await ids(name="%") == []
    assert await ids(tag="red", statuses=(ExperimentState.RUNNING,), project="other", owner="admin") == ["e3"]
    assert await ids(tag="blue") == []
    assert await stage.queries.known_key("admin", "k1")
    assert not await stage.queries.known_key("admin", "k9")


async def test_a_cursor_that_is_not_ours_is_refused(stage: Stage) -> None:
    for cursor in ("x", "bm8", "W10", "WyJhIl0", "WzEsMl0", "Wy0xXQ", "é", "WzFlOV0", "A" * 2000):
        with pytest.raises(InvalidRequestError):
            await stage.queries.experiments(ExperimentFilter(), 10, cursor)


async def test_tasks_without_rows_are_filled_in(stage: Stage) -> None:
    first, second = await stage.submit("e1", step(0, 20), step(1, 3, after=(0,)))
    await stage.put(first, [0, 1, 5, 6], S.SUCCEEDED)
    await stage.put(first, [2, 7], S.FAILED)
    await stage.put(first, [3], S.RUNNING, worker=1)
    found = await stage.all_tasks("e1")
    assert [(t.step, t.index) for t in found] == [("s0", i) for i in range(20)] + [("s1", i) for i in range(3)]
    assert [t.state for t in found[:9]] == [
        S.SUCCEEDED, S.SUCCEEDED, S.FAILED, S.RUNNING, S.READY, S.SUCCEEDED, S.SUCCEEDED, S.FAILED, S.READY,
    ]  # fmt: skip
    assert found[4].parameters == {"X": 5}
    assert (found[3].worker, found[3].resource) == ("w1", "local")
    assert {t.state for t in found[20:]} == {S.PENDING}

    async def indexes(*states: TaskState) -> list[tuple[str, int]]:
        return [(t.step, t.index) for t in await stage.all_tasks("e1", states, limit=2)]

    assert await indexes(S.FAILED) == [("s0", 2), ("s0", 7)]
    assert await indexes(S.RUNNING) == [("s0", 3)]
    assert await indexes(S.READY) == [("s0", i) for i in (4, *range(8, 20))]
    assert await indexes(S.PENDING, S.FAILED) == [("s0", 2), ("s0", 7), ("s1", 0), ("s1", 1), ("s1", 2)]
    assert await indexes(S.CANCELED) == []
    assert second != first


async def test_holes_are_found_across_strides(stage: Stage) -> None:
    (only,) = await stage.submit("e1", step(0, 20_000))
    await stage.run(
        "INSERT INTO tasks (step_id, index, state, attempt) SELECT :s, i, 6, 1 FROM generate_series(0, 19999) i "
        "WHERE i NOT IN (4095, 4096, 12345, 19999)",
        s=only,
    )
    assert [t.index for t in await stage.all_tasks("e1", [S.READY], limit=3)] == [4095, 4096, 12345, 19999]


async def test_one_task_comes_with_its_attempts(stage: Stage) -> None:
    (only,) = await stage.submit("e1", step(0, 3))
    await stage.put(only, [1], S.FAILED)
    await stage.run(
        """INSERT INTO attempts (step_id, index, attempt, state, worker_id, started_at, wall_s, exit_code, cause,
        message, stdout)
        VALUES (:s, 1, 1, 7, 1, to_timestamp(1e9), 2.5, 3, 'exit_code', 'it ended with 3', '["seg", 10, 4, true]')""",
        s=only,
    )
    task = await stage.queries.task("e1", "s0", 1)
    assert (task.state, task.cause, task.message, task.worker) == (S.FAILED, "exit_code", "it ended with 3", "w1")
    (attempt,) = task.attempts
    assert attempt.stdout == Extent("seg", 10, 4, truncated=True)
    assert (attempt.started_at, attempt.exit_code) == (1e9, 3)
    source = await stage.queries.log_source("e1", "s0", 1, None)
    assert (source.attempt, source.running, source.stdout) == (1, False, Extent("seg", 10, 4, truncated=True))
    for experiment, name, index in (("no", "s0", 0), ("e1", "no", 0), ("e1", "s0", 3)):
        with pytest.raises(NotFoundError):
            await stage.queries.task(experiment, name, index)
    with pytest.raises(NotFoundError):
        await stage.queries.log_source("e1", "s0", 1, 2)


async def test_only_outputs_of_the_attempt_that_succeeded_are_published(stage: Stage) -> None:
    (only,) = await stage.submit("e1", step(0, 5))
    await stage.put(only, [0, 1, 2], S.SUCCEEDED)
    await stage.put(only, [3], S.FAILED)
    rows = [(0, 1), (1, 1), (2, 2), (3, 1)]
    for index, attempt in rows:
        for name in ("a", "b"):
            await stage.run(
                "INSERT INTO outputs VALUES (:s, :i, :n, :a, :k, 3, 'aa')",
                s=only,
                i=index,
                n=name,
                a=attempt,
                k=f"e1/s0/{index}/{attempt}/{name}",
            )
    seen, cursor = [], None
    while True:
        page = await stage.queries.outputs("e1", None, 3, cursor)
        seen += [(o.index, o.name) for o in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert seen == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]
    assert (await stage.queries.output("e1", "s0", 1, "b")).key == "e1/s0/1/1/b"
    with pytest.raises(NotFoundError):
        await stage.queries.output("e1", "s0", 3, "a")


async def _table(stage: Stage, form: str) -> bytes:
    schema, batches = await results.record_batches(stage.queries, "e1")
    return b"".join([piece async for piece in results.FORMATS[form][1](schema, batches)])


async def test_the_results_table_has_a_row_for_every_task(stage: Stage) -> None:
    sweep = Sweep(Product((Values("X", (1, 2.5, 3)), Values("state", ("a", "b")))))
    (only,) = await stage.submit("e1", step(0, 6, sweep=sweep, fan_out=6))
    await stage.put(only, [1, 3], S.SUCCEEDED)
    await stage.run(
        """INSERT INTO attempts (step_id, index, attempt, state, worker_id, started_at, wall_s, results) VALUES
        (:s, 1, 1, 6, 1, to_timestamp(1e9), 2.5, '{"y": 4}'),
        (:s, 3, 1, 6, 1, to_timestamp(1e9), 1.5, '{"y": 0.5, "z": 1}')""",
        s=only,
    )
    table = pyarrow.parquet.read_table(io.BytesIO(await _table(stage, "parquet")))
    assert table.column_names[:6] == ["experiment", "step", "index", "X", "param.state", "y"]
    assert table["index"].to_pylist() == list(range(6))
    assert table["X"].to_pylist() == [1.0, 1.0, 2.5, 2.5, 3.0, 3.0]
    assert table["y"].to_pylist() == [None, 4.0, None, 0.5, None, None]
    assert table["state"].to_pylist() == ["READY", "SUCCEEDED", "READY", "SUCCEEDED", "READY", "READY"]
    assert table["resource"].to_pylist()[1] == "local"
    rows = json.loads(await _table(stage, "json"))
    assert rows["columns"] == table.column_names
    assert rows["items"][1]["started_at"] == "2001-09-09T01:46:40Z"
    assert pyarrow.csv.read_csv(io.BytesIO(await _table(stage, "csv"))).num_rows == 6


@pytest.mark.parametrize(
    ("values", "kind", "shown"),
    [
        ("1 -9223372036854775808 9223372036854775807", "int64", [1, -(2**63), 2**63 - 1]),
        ("1 9223372036854775808", "string", ["1", "9223372036854775808"]),
        ("1 1764340000123456789.5", "double", [1.0, 1764340000123456789.5]),
        ("0.5 1" + 400 * "0", "string", ["0.5", "1" + 400 * "0"]),
        ("true false", "bool", [True, False]),
    ],
)
async def test_numbers_in_results_are_neither_rounded_nor_too_large(
    stage: Stage, values: str, kind: str, shown: list[Any]
) -> None:
    await _put_results(stage, values.split())
    column = pyarrow.parquet.read_table(io.BytesIO(await _table(stage, "parquet")))["y"]
    assert str(column.type) == kind
    assert column.to_pylist() == shown


async def test_a_fraction_that_comes_while_whole_numbers_are_read_is_not_cut_off(stage: Stage) -> None:
    await _put_results(stage, ["1", "2"])
    _, batches = await results.record_batches(stage.queries, "e1")
    await stage.run("""UPDATE attempts SET results = '{"y": 2.75}' WHERE index = 1""")
    with pytest.raises(TypeError, match="whole numbers"):
        _ = [batch async for batch in batches]


async def _put_results(stage: Stage, values: list[str]) -> None:
    (only,) = await stage.submit("e1", step(0, len(values)))
    await stage.put(only, list(range(len(values))), S.SUCCEEDED)
    for index, value in enumerate(values):
        await stage.run(
            """INSERT INTO attempts (step_id, index, attempt, state, worker_id, results)
            VALUES (:s, :i, 1, 6, 1, CAST(:r AS jsonb))""",
            s=only, i=index, r=f'{{"y": {value}}}',
        )  # fmt: skip


async def test_platform_views_sum_live_workers(stage: Stage) -> None:
    (only,) = await stage.submit("e1", step(0, 5))
    await stage.put(only, [0, 1], S.RUNNING, worker=1)
    (resource,) = await stage.queries.resources()
    assert (resource.state, resource.capacity.cpu, resource.workers, resource.running) == ("up", 4, 1, 2)
    (worker,) = await stage.queries.workers()
    assert (worker.name, worker.running) == ("w1", 2)
    totals = await stage.queries.totals()
    assert totals.tasks["running"] == 2
    assert totals.tasks["ready"] == 3
    assert totals.resources == {"local": (4.0, 2)}
    await stage.run("UPDATE workers SET state = 'gone'")
    assert (await stage.queries.resource("local")).state == "down"
    assert await stage.queries.workers() == []
    assert len(await stage.queries.workers(ended=True)) == 1


async def test_what_is_given_back_during_a_cancel_is_canceled_as_well(stage: Stage) -> None:
    (a,) = await stage.submit("e1", step(0, 2))
    await stage.put(a, [0, 1], S.ASSIGNED, worker=1)
    async with stage.engine.connect() as worker:
        await worker.execute(sa.text("UPDATE tasks SET state = 1, worker_id = NULL WHERE index = 0"))
        cancel = asyncio.create_task(PostgresExperimentStore(stage.engine).cancel("e1", "enough"))
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        async with asyncio.timeout(30):
            while not (await stage.run(waiting))[0][0]:  # noqa: ASYNC110 - what it looks at has no event
                await asyncio.sleep(0.01)
        await worker.commit()
        assert await cancel == (ExperimentState.CANCELED, [1])
    assert {row[0] for row in await stage.run("SELECT state FROM tasks")} == {int(S.CANCELED)}


async def test_a_commit_whose_answer_is_lost_has_happened_once(
    stage: Stage, lose_commit: Callable[[], list[object]]
) -> None:
    lost = lose_commit()
    store = PostgresExperimentStore(stage.engine)
    (a,) = await stage.submit("e1", step(0, 3))
    assert lost
    assert len(await stage.run("SELECT id FROM steps")) == 1
    await stage.put(a, [0, 1, 2], S.FAILED)
    await stage.run("UPDATE steps SET next_index = 3")
    await stage.run("UPDATE experiments SET status = 'FAILED', finished_at = clock_timestamp()")
    lost.clear()
    assert await store.retry("e1") == 3
    await store.cancel("e1", "enough")
    lost.clear()
    await store.delete("e1")
    assert await stage.run("SELECT id FROM experiments") == []
    with pytest.raises(NotFoundError):
        await store.delete("e1")
