"""Tables beside a document are put into it by the client; the examples and the reference are valid documents."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from airavata_scheduler.client.document_files import inline_files
from airavata_scheduler.platform.domain.compile import compile_document
from airavata_scheduler.platform.domain.document import parse_document
from airavata_scheduler.platform.domain.errors import InvalidDocumentError

ROOT = Path(__file__).parents[2]
NOW = 1_900_000_000.0


def task(**fields: Any) -> dict[str, Any]:
    return {"tasks": {"a": {"command": ["x"], **fields}}}


def test_rows_of_a_csv_file(tmp_path: Path) -> None:
    (tmp_path / "sites.csv").write_text('SITE,ALT,CODE\n"north,\nupper",310.5,007\nsouth,-4,1e3\n')
    inlined = inline_files(task(rows="sites.csv"), tmp_path)
    assert inlined["tasks"]["a"]["rows"] == [
        {"SITE": "north,\nupper", "ALT": 310.5, "CODE": "007"},
        {"SITE": "south", "ALT": -4, "CODE": 1000.0},
    ]
    (step,) = compile_document(parse_document(inlined, now=NOW)).steps
    assert step.parameters(1) == {"SITE": "south", "ALT": -4, "CODE": 1000.0}


def test_some_columns_of_a_json_file_and_a_single_one(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('[{"A": 1, "B": [2]}, {"B": [3], "A": 4}]')
    inputs = {"X": {"file": "t.json", "column": "B"}, "Y": 1}
    changed = inline_files(task(rows={"file": "t.json", "columns": ["A"]}, task_inputs=inputs), tmp_path)["tasks"]["a"]
    assert changed["rows"] == [{"A": 1}, {"A": 4}]
    assert changed["task_inputs"] == {"X": [[2], [3]], "Y": 1}


@pytest.mark.parametrize(
    ("content", "form", "word"),
    [
        (None, "t.csv", "No such file"),
        ("A,B\n1\n", "t.csv", "row 2"),
        ("A,A\n1,2\n", "t.csv", "twice"),
        ("A\n1\n", {"file": "t.csv", "columns": ["B"]}, "no column 'B'"),
        ("A\n1\n", {"file": "t.csv", "column": "A"}, "not known here"),
        ("A\n1\n", {"file": "t.csv", "columns": 5}, "5 is no name of a column"),
        ("A\n1\n", {"file": "t.csv", "columns": [["A"]]}, "no name of a column"),
        ("A\n" + "x" * 200_000, "t.csv", "larger than"),
        ("[" * 100_000, "t.json", "nested too deeply"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, content: str | None, form: Any, word: str) -> None:
    if content is not None:
        for name in ("t.csv", "t.json"):
            (tmp_path / name).write_text(content)
    with pytest.raises(InvalidDocumentError) as caught:
        inline_files(task(rows=form), tmp_path)
    (problem,) = caught.value.problems
    assert problem.path == "tasks.a.rows"
    assert word in problem.message


@pytest.mark.parametrize("document", [{}, {"tasks": 3}, {"tasks": {"a": 3}}, task(task_inputs=[1])])
def test_broken_documents_pass_through_to_the_validator(tmp_path: Path, document: dict[str, Any]) -> None:
    assert inline_files(document, tmp_path) == document


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yml")), ids=lambda path: path.name)
def test_examples_are_valid(path: Path) -> None:
    text = path.read_text("utf-8")
    assert compile_document(parse_document(text, now=NOW)).n_tasks > 1
    assert not re.search(r"(default|task_outputs).*: /", text), "examples have no absolute paths"


def test_documents_in_the_reference_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/experiment-document.md").read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 8
    for block in blocks:
        parse_document(block, now=NOW)
