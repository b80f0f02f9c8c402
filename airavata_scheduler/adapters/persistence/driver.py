"""What SQLAlchemy has no word for: COPY through the psycopg connection of the same transaction."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg
from sqlalchemy.ext.asyncio import AsyncConnection

_NUL = "\\u0000"  #: as JSON has it
#: No value, in COPY's text format.
NULL = r"\N"


def int_array(values: Iterable[int]) -> str:
    """The text of a PostgreSQL array. Ten times cheaper than the driver's own, which looks at each element."""
    return "{" + ",".join(map(str, values)) + "}"


def copy_field(value: object) -> str:
    """A value as a field of COPY's text format."""
    if value is None:
        return NULL
    text = str(value).replace("\0", "")
    if "\\" in text or "\t" in text or "\n" in text or "\r" in text:
        text = text.replace("\\", r"\\").replace("\t", r"\t").replace("\n", r"\n").replace("\r", r"\r")
    return text


def json_text(value: Any) -> str:
    """JSON that PostgreSQL takes, whatever a program wrote: numbers that are not finite become null, NUL goes."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = _NUL
    # A program may as well have written the escape itself, so it is not the text that is mended.
    return json.dumps(_storable(value), ensure_ascii=False, allow_nan=False) if _NUL in text else text


def _storable(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, Mapping):
        return {_storable(key): _storable(item) for key, item in value.items()}
    return [_storable(item) for item in value] if isinstance(value, list | tuple) else value


async def copy_text(connection: AsyncConnection, table: str, columns: str, lines: Iterable[str]) -> None:
    """Append rows, each a line in COPY's text format. ``table`` and ``columns`` are names in our code, never input."""
    raw = (await connection.get_raw_connection()).driver_connection
    assert isinstance(raw, psycopg.AsyncConnection)  # the engine is made for this driver
    async with raw.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
        # Half a surrogate pair, from a program's output, has no UTF-8.
        await copy.write("".join(lines).encode("utf-8", "replace"))
