"""Every document that is wrong is refused, with the place, a reason and a remedy."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from airavata_scheduler.platform.domain.document import parse_document
from airavata_scheduler.platform.domain.document_yaml import MAX_CHARACTERS
from airavata_scheduler.platform.domain.errors import InvalidDocumentError, Problem

NOW = datetime(2030, 1, 1, tzinfo=UTC).timestamp()
CASES: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "data/invalid_documents.yml").read_text("utf-8"))


def problems_of(source: Any, **options: Any) -> tuple[Problem, ...]:
    with pytest.raises(InvalidDocumentError) as caught:
        parse_document(source, now=NOW, **options)
    return caught.value.problems


def test_there_are_many_cases() -> None:
    assert len({case["document"] for case in CASES}) == len(CASES) >= 45


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['path'] or 'all'}-{case['word']}")
def test_is_refused(case: dict[str, Any]) -> None:
    problems = problems_of(case["document"])
    said = [problem for problem in problems if problem.path == case["path"]]
    assert any(case["word"] in str(problem) for problem in said), [str(problem) for problem in problems]
    assert all(problem.message and problem.remedy for problem in problems)
    if case.get("exact"):
        assert len(problems) == 1, [str(problem) for problem in problems]


def test_all_problems_come_at_once() -> None:
    text = """
    budget: -1
    deadline: yesterday
    tasks:
      a: {command: [x], colour: red, task_inputs: {X: 5..1}}
      b: {command: [x], task_inputs: {Y: []}, timeout: soon}
      c: {script: nope, depends_on: [d]}
    """
    assert {problem.path for problem in problems_of(text)} == {
        "budget",
        "deadline",
        "tasks.a.colour",
        "tasks.a.task_inputs.X",
        "tasks.b.task_inputs.Y",
        "tasks.b.timeout",
        "tasks.c.script",
        "tasks.c.depends_on",
    }


def test_what_follows_from_a_problem_is_not_said() -> None:
    text = """
    tasks:
      a: {command: [x], task_inputs: {X: 5..1}, task_outputs: {O: o}}
      b: {command: [x], foreach: [a], task_inputs: {P: "${a.O}"}}
    """
    assert [problem.path for problem in problems_of(text)] == ["tasks.a.task_inputs.X"]


def test_a_parameter_without_a_value_is_one_problem() -> None:
    text = """
    parameters: {N: {type: int}}
    environment: {M: "${N}"}
    tasks: {a: {command: [x], sweep: {zip: [X, Y]}, task_inputs: {X: "1..${N}", Y: 1..3}}}
    """
    assert [problem.path for problem in problems_of(text)] == ["parameters.N"]


def test_overrides_must_name_a_parameter() -> None:
    text = "parameters: {STEPS: 3}\ntasks: {a: {command: [x]}}"
    (problem,) = problems_of(text, overrides={"STEP": "4"})
    assert problem.path == "parameters.STEP"
    assert "STEPS" in problem.remedy


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 10)]
    assert "values" in problems_of("\n".join(lines))[0].message


def test_depth_and_size_are_bounded() -> None:
    assert "levels" in problems_of("[" * 5000 + "]" * 5000)[0].message
    assert "characters" in problems_of("#" * (MAX_CHARACTERS + 1))[0].message
    nested: dict[str, Any] = {}
    for _ in range(5000):
        nested = {"x": nested}
    assert "levels" in problems_of(nested)[0].message


def test_bytes_that_are_not_utf8() -> None:
    assert "line 2" in problems_of(b"name: x\ndescription: \xff\n")[0].message
