"""Every document that is wrong is refused, with the place, a reason and a remedy."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import operator
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airavata_scheduler.platform.domain.compile import compile_document
from airavata_scheduler.platform.domain.document import parse_document
from airavata_scheduler.platform.domain.document_yaml import MAX_CHARACTERS
from airavata_scheduler.platform.domain.errors import InvalidDocumentError, Problem

#: Every kind of field once.
WHOLE: dict[str, Any] = yaml.safe_load("""
name: whole
parameters: {N: {type: int, default: 3}, P: text}
deadline: 8h
budget: 5
objective: {time: 1, cost: 2}
resources: {compute: {cpu: 1, memory: 1GB, gpu: 0.5, named: {a: 1}, time: 1m}, environment: {A: b}}
retry: {max_attempts: 3, on: [timeout], backoff_s: 1}
tasks:
  a:
    command: [x]
    task_inputs: {X: "1..${N}", Y: {linspace: [0, 1, 4]}, Z: {min: 0, max: 1}, L: [1, b]}
    sample: {method: sobol, n: 8, seed: 1, over: [Z]}
    task_outputs: {O: o}
    results: {r: "O#/a/b"}
    timeout: 5m
  b: {python: "m:f", foreach: [a], task_inputs: {Q: "${a.O}"}, rows: [{R: 1}, {R: 2}]}
  c: {command: [y], gather: [a], depends_on: [b], task_inputs: {M: "${a.O}"}, sweep: zip}
""")
ODD: list[Any] = [
    None, True, -1, 10**30, 1e308, float("nan"), "", "${", "${a.b.c}", "$${x}", "1..", "1..2..0", "1..1e400", "9" * 400,
    "\0", "\ud800", [], {}, [[]], {"": 1}, {None: 1}, {"a": {"a": {}}}, [None], ["x"] * 3, {"min": 1, "max": 0},
    {"linspace": [0, 1, -1]}, {"linspace": [0, 1, 1e9]}, {"geomspace": [-1, 1, 3]}, {"logspace": [0, 400, 3]},
    {"file": "x"}, {"range": [0, 1, 0]}, {"values": 1}, {"value": [1]}, "1..10000000000", "0..1..1e-300", {1: 2},
    "P1D", "2031-05-01T00:00:00+99:00", "-5s", "1e9d", "stdout#x", "O#/~2", "../x", "/abs", "x" * 5000,
]  # fmt: skip
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


def test_an_override_of_a_parameter_whose_type_is_nonsense() -> None:
    text = "parameters: {N: {type: {a: b}, default: 3}}\ntasks: {a: {command: [x]}}"
    assert [problem.path for problem in problems_of(text, overrides={"N": "4"})] == ["parameters.N.type"]


def places(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document, as keys and indexes."""
    if place:
        yield place
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from places(value, (*place, key))


@given(
    places=st.lists(st.sampled_from(list(places(WHOLE))), min_size=1, max_size=3),
    values=st.lists(st.sampled_from(ODD), min_size=3, max_size=3),
    override=st.sampled_from(["5", "x", "1e400", "[1]", "", "{"]),
)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_that_stands_anywhere_breaks_the_reader(places: list[Any], values: list[Any], override: str) -> None:
    document = copy.deepcopy(WHOLE)
    for place, value in zip(places, values, strict=False):
        with contextlib.suppress(KeyError, IndexError, TypeError, AttributeError):  # an earlier one took it away
            parent = functools.reduce(operator.getitem, place[:-1], document)
            parent[place[-1]] = copy.deepcopy(value)
    with contextlib.suppress(InvalidDocumentError):
        compiled = compile_document(parse_document(document, now=NOW, overrides={"N": override}))
        for step in compiled.steps:
            assert json.dumps([step.to_json(), step.parameters(step.n - 1)], allow_nan=False)


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
