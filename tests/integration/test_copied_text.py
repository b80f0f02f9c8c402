"""Whatever a program printed or returned can be recorded: nothing of it may make a report fail for ever."""

from __future__ import annotations

import sqlalchemy as sa

from airavata_scheduler.adapters.persistence.driver import copy_field, copy_text, json_text
from airavata_scheduler.adapters.persistence.engine import create_engine

STRANGE = {
    "nan": float("nan"),
    "deep": [{"inf": float("inf")}],
    "nul": "a\0b",
    "half": "\ud800",
    "line": "x\ty\n\\N\r",
    "said": r"\u0000",
}


async def test_strange_values_survive_the_way_into_the_database(own_database: str) -> None:
    engine = create_engine(own_database)
    try:
        async with engine.begin() as connection:
            row = (1, 0, 1, 7, 1, "tab\tline\nback\\slash nul\0", json_text(STRANGE), None)
            columns = "step_id, index, attempt, state, worker_id, message, results, stdout"
            await copy_text(connection, "attempts", columns, ["\t".join(map(copy_field, row)) + "\n"])
        async with engine.connect() as connection:
            found = (await connection.execute(sa.text("SELECT message, results, stdout FROM attempts"))).one()
    finally:
        await engine.dispose()
    assert found.message == "tab\tline\nback\\slash nul"
    assert found.results == {
        "nan": None,
        "deep": [{"inf": None}],
        "nul": "ab",
        "half": "?",
        "line": "x\ty\n\\N\r",
        "said": r"\u0000",
    }
    assert found.stdout is None
