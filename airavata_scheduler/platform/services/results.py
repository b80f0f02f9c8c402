"""The results table of an experiment: one row a task, streamed as Parquet, CSV or JSON in the memory of one batch.

Columns: experiment, step, index, the swept parameters, the declared result values, then what the platform measured. A
parameter or result value that is called like a column of ours, or like each other, is named `param.X` or `result.X`.
"""

from __future__ import annotations

import asyncio
import io
import json
import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from airavata_scheduler.platform.domain.axes import Axis, Interval, Rows, Space, Steps, Values
from airavata_scheduler.platform.domain.sweep import Selection
from airavata_scheduler.platform.ports.queries import Queries, ResultRow, ResultStep

_LEADING = (("experiment", pa.string()), ("step", pa.string()), ("index", pa.int64()))
_MEASURED = (
    ("state", pa.string()),
    ("attempt", pa.int64()),
    ("started_at", pa.timestamp("us", tz="UTC")),
    ("wall_s", pa.float64()),
    ("cpu_s", pa.float64()),
    ("peak_memory_bytes", pa.int64()),
    ("exit_code", pa.int64()),
    ("cause", pa.string()),
    ("resource", pa.string()),
    ("worker", pa.string()),
    ("cost", pa.float64()),
)
_TYPES = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "str": pa.string(), "null": pa.float64()}
_INT64 = range(-(2**63), 2**63)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if value in _INT64 else "str"
    return "float" if isinstance(value, float) else "str"


def _joined(kinds: Iterable[str]) -> str:
    """The kind that values of all these kinds fit."""
    found = set(kinds) - {"null"}
    if len(found) < 2:
        return found.pop() if found else "null"
    return "float" if found == {"int", "float"} else "str"


def parameter_kinds(axis: Axis) -> dict[str, str]:
    """The kind of each parameter of a sweep, from its encoded form: no combination is computed."""
    match axis:
        case Values(name, values):
            return {name: _joined({_kind(value) for value in values})}
        case Rows(names, rows):
            return {name: _joined({_kind(row[i]) for row in rows}) for i, name in enumerate(names)}
        case Steps():
            ends = {_kind(axis.start), _kind(axis.stop), _kind(axis.step)}
            return {axis.name: "int" if ends == {"int"} else "float"}
        case Space():
            return {axis.name: "float"}
        case Interval():
            ends = {_kind(int(axis.low)), _kind(int(axis.high))}
            return {axis.name: "int" if axis.whole and ends == {"int"} else "float"}
        case Selection():
            return parameter_kinds(axis.of)
    return {name: kind for part in getattr(axis, "parts", ()) for name, kind in parameter_kinds(part).items()}


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a results table: names in the table of parameters and results, and the schema of all."""

    experiment: str
    parameters: Mapping[str, str]
    results: Mapping[str, str]
    schema: pa.Schema

    @classmethod
    def of(cls, experiment: str, steps: Sequence[ResultStep]) -> Table:
        """The table that holds the rows of all these steps."""
        kinds = [parameter_kinds(step.step.sweep.root) for step in steps]
        parameters = _merged(kinds)
        results = _merged([step.columns for step in steps])
        ours = {name for name, _ in (*_LEADING, *_MEASURED)}
        shown_p = {name: f"param.{name}" if name in ours or name in results else name for name in parameters}
        taken = ours | set(shown_p.values())
        shown_r = {name: f"result.{name}" if name in taken or name in parameters else name for name in results}
        fields = [
            *_LEADING,
            *((shown_p[name], _TYPES[kind]) for name, kind in parameters.items()),
            *((shown_r[name], _TYPES[kind]) for name, kind in results.items()),
            *_MEASURED,
        ]
        return cls(experiment, shown_p, shown_r, pa.schema(fields))

    def batch(self, step: ResultStep, rows: Sequence[ResultRow]) -> pa.RecordBatch:
        """Some rows of one step."""
        decoded = [step.step.parameters(row.index) for row in rows]
        reported = [row.results or {} for row in rows]
        columns: dict[str, list[Any]] = {
            "experiment": [self.experiment] * len(rows),
            "step": [step.name] * len(rows),
            "index": [row.index for row in rows],
            **{shown: [values.get(name) for values in decoded] for name, shown in self.parameters.items()},
            **{shown: [values.get(name) for values in reported] for name, shown in self.results.items()},
            "state": [row.state.name for row in rows],
            "started_at": [None if row.started_at is None else round(row.started_at * 1e6) for row in rows],
        }
        for name, _ in _MEASURED:
            if name not in columns:
                columns[name] = [getattr(row, name) for row in rows]
        arrays = [_array(columns[field.name], field.type) for field in self.schema]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def _merged(kinds: Sequence[Mapping[str, str]]) -> dict[str, str]:
    names = dict.fromkeys(name for found in kinds for name in found)
    return {name: _joined({found[name] for found in kinds if name in found}) for name in names}


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        return pa.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values], kind)
    if pa.types.is_floating(kind):
        return pa.array([None if v is None else float(v) for v in values], kind)
    if pa.types.is_integer(kind) and any(isinstance(v, float) for v in values):
        # Reported since the columns got their types. Arrow would cut it off; who asks again gets another type.
        raise TypeError("a column of whole numbers has got one with a fraction")
    return pa.array(values, kind)


async def record_batches(
    queries: Queries, experiment: str, step: str | None = None
) -> tuple[pa.Schema, AsyncIterator[pa.RecordBatch]]:
    """The schema of an experiment's results table, and its batches."""
    steps = await queries.result_steps(experiment, step)
    table = Table.of(experiment, steps)

    async def batches() -> AsyncIterator[pa.RecordBatch]:
        for each in steps:
            async for rows in queries.result_rows(experiment, each.name):
                yield await asyncio.to_thread(table.batch, each, rows)

    return table.schema, batches()


class _Outlet(io.RawIOBase):
    """A file for a writer; what was written can be taken away piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Keep the bytes until they are taken."""
        piece = bytes(data)
        self._pieces.append(piece)
        self._written += len(piece)
        return len(piece)

    def tell(self) -> int:
        """How much was written in all."""
        return self._written

    def take(self) -> bytes:
        """What was written since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


async def parquet(schema: pa.Schema, batches: AsyncIterator[pa.RecordBatch]) -> AsyncIterator[bytes]:
    """The bytes of a Parquet file."""
    outlet = _Outlet()
    writer = pa.parquet.ParquetWriter(outlet, schema, compression="zstd")
    async for batch in batches:
        await asyncio.to_thread(writer.write_batch, batch)
        yield outlet.take()
    await asyncio.to_thread(writer.close)
    yield outlet.take()


async def csv(schema: pa.Schema, batches: AsyncIterator[pa.RecordBatch]) -> AsyncIterator[bytes]:
    """The bytes of a CSV file with a header."""
    yield (",".join('"' + name.replace('"', '""') + '"' for name in schema.names) + "\n").encode()
    options = pa.csv.WriteOptions(include_header=False)
    async for batch in batches:
        sink = pa.BufferOutputStream()
        await asyncio.to_thread(pa.csv.write_csv, batch, sink, options)
        yield sink.getvalue().to_pybytes()


async def json_rows(schema: pa.Schema, batches: AsyncIterator[pa.RecordBatch]) -> AsyncIterator[bytes]:
    """``{"columns": [...], "items": [{...}, …]}``. JSON knows no infinity and no NaN: they become null."""
    yield json.dumps({"columns": schema.names})[:-1].encode() + b', "items": ['
    first = True
    async for batch in batches:
        text = await asyncio.to_thread(_json_lines, batch)
        if text:
            yield (text if first else ", " + text).encode()
            first = False
    yield b"]}"


def _json_lines(batch: pa.RecordBatch) -> str:
    return ", ".join(json.dumps(dict(_json_safe(row)), allow_nan=False) for row in batch.to_pylist())


def _json_safe(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, float) and not math.isfinite(value):
            yield name, None
        elif hasattr(value, "isoformat"):
            yield name, value.isoformat().replace("+00:00", "Z")
        else:
            yield name, value


#: Format -> media type and writer.
FORMATS: Mapping[str, tuple[str, Callable[[pa.Schema, AsyncIterator[pa.RecordBatch]], AsyncIterator[bytes]]]] = {
    "json": ("application/json", json_rows),
    "csv": ("text/csv", csv),
    "parquet": ("application/vnd.apache.parquet", parquet),
}
