"""A document becomes steps: the same ones every time, as ranges, with everything that workers need."""

from __future__ import annotations

import json
import pickle
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airavata_scheduler.platform.domain.compile import (
    CompiledExperiment,
    CompiledStep,
    Reference,
    ResourceOffer,
    check_fits,
    compile_document,
    encode_value,
)
from airavata_scheduler.platform.domain.document import json_schema, parse_document
from airavata_scheduler.platform.domain.document_yaml import load
from airavata_scheduler.platform.domain.errors import (
    AiravataError,
    InvalidDocumentError,
    Problem,
    StaleError,
    UnavailableError,
)
from airavata_scheduler.platform.domain.failures import Cause
from airavata_scheduler.platform.domain.request import Capacity

NOW = 1_900_000_000.0
CHAIN = """
name: chain
tags: [demo]
parameters:
  LEDGER: {type: path, default: /tmp/ledger}
  COUNT: 4
scripts:
  work: |
    #!/bin/sh
    echo "$I" > "$OUT"
resources: {compute: {cpu: 2, memory: 2GB, time: "0:05:00", named: {licence: 1}}}
environment: {MODE: "n=${COUNT}"}
retry: 3
deadline: 2h
objective: {time: 3, cost: 1}
tasks:
  merge:
    command: [/bin/merge]
    gather: [work]
    task_inputs: {PARTS: "${work.OUT}"}
    task_outputs: {TOTAL: total.json}
    results: {total: "TOTAL#/sum"}
  work:
    script: work
    task_inputs: {I: "1..${COUNT}"}
    task_outputs: {OUT: out.txt}
    resources: {cpu: 0.5, named: {gpu_hours: 2}}
    retry: {max_attempts: 2, on: [timeout], backoff_s: 5}
    timeout: 90s
  each:
    python: analysis.fit:run
    foreach: [work]
    task_inputs: {SOURCE: "${work.OUT}", DEGREE: [1, 2], SCALE: 0.5}
    results: {error: "return#/rms"}
  report:
    command: [/bin/report]
    depends_on: [merge]
    task_inputs: {TOTAL: "${merge.TOTAL}"}
results: {out: "work.OUT#"}
"""


def compiled(source: Any, **overrides: str) -> CompiledExperiment:
    return compile_document(parse_document(source, overrides=overrides, now=NOW))


def steps_of(source: Any, **overrides: str) -> dict[str, CompiledStep]:
    return {step.name: step for step in compiled(source, **overrides).steps}


def test_steps_come_after_what_they_need() -> None:
    experiment = compiled(CHAIN)
    assert [(step.position, step.name, step.n) for step in experiment.steps] == [
        (0, "work", 4),
        (1, "merge", 1),
        (2, "each", 8),
        (3, "report", 1),
    ]
    assert experiment.n_tasks == 14
    assert experiment.deadline == NOW + 7200
    assert experiment.objective == {"time": 0.75, "cost": 0.25, "deadline": 0, "locality": 0}


def test_references_know_what_they_stand_for() -> None:
    steps = steps_of(CHAIN)
    assert steps["merge"].references == {"PARTS": Reference(0, "OUT", "gather")}
    assert steps["each"].references == {"SOURCE": Reference(0, "OUT", "foreach")}
    assert steps["report"].references == {"TOTAL": Reference(1, "TOTAL", "single")}
    assert (steps["merge"].gather, steps["each"].foreach, steps["report"].after) == ((0,), (0,), (1,))


def test_a_sweep_under_foreach_fans_out() -> None:
    each = steps_of(CHAIN)["each"]
    assert each.fan_out == 2
    assert [each.parameters(i)["DEGREE"] for i in range(each.n)] == [1, 2] * 4
    assert each.parameters(7) == {"DEGREE": 2, "SCALE": 0.5}


def test_the_program_has_what_does_not_vary() -> None:
    work, each = steps_of(CHAIN)["work"], steps_of(CHAIN)["each"]
    assert work.program.script == '#!/bin/sh\necho "$I" > "$OUT"\n'
    assert work.program.environment == {"LEDGER": "/tmp/ledger", "COUNT": "4", "MODE": "n=4"}
    assert work.program.results == {"out": ("OUT", "")}
    assert each.program.results == {"error": ("return", "/rms")}
    assert (work.program.timeout_s, each.program.timeout_s, work.time_s) == (90, None, 300)
    assert work.program.request == Capacity(0.5, 2 * 10**9, named={"licence": 1, "gpu_hours": 2})
    program = work.program.program(7, "chain", "work", "x/work")
    assert (program.step_id, program.script, program.output_prefix) == (7, work.program.script, "x/work")


def test_policies_of_a_task_replace_those_of_the_document() -> None:
    steps = steps_of(CHAIN)
    assert (steps["work"].retry.max_attempts, steps["work"].retry.on, steps["work"].retry.backoff_s) == (
        2,
        (Cause.TIMEOUT,),
        5,
    )
    assert steps["merge"].retry.max_attempts == 3


def test_overrides_replace_parameters() -> None:
    assert steps_of(CHAIN, COUNT="9")["work"].n == 9
    assert steps_of(CHAIN, LEDGER="007")["work"].program.environment["LEDGER"] == "007"


def test_steps_are_plain_json() -> None:
    for step in compiled(CHAIN).steps:
        again = CompiledStep.from_json(json.loads(json.dumps(step.to_json())))
        assert again == step
        assert set(step.to_json()) == {field.name for field in fields(step)}


def test_the_same_document_gives_the_same_tasks() -> None:
    assert compiled(json.loads(json.dumps(load(CHAIN)))) == compiled(CHAIN)


def test_sweeps_join_as_written() -> None:
    text = """
tasks:
  zipped: {command: [x], sweep: {zip: [A, C]}, task_inputs: {A: [1, 2], B: [x, y, z], C: 5..6, K: 9}}
  all: {command: [x], sweep: zip, rows: [{R: 1}, {R: 2}], task_inputs: {A: {linspace: [0, 1, 2]}}}
  drawn:
    command: [x]
    sample: {method: latin_hypercube, n: 5, seed: 1, over: [U]}
    task_inputs: {U: {min: 0, max: 1}, B: [no, on, 1e3, 007]}
"""
    steps = steps_of(text)
    assert steps["zipped"].n == 6
    assert steps["zipped"].parameters(1) == {"A": 1, "C": 5, "B": "y", "K": 9}
    assert steps["zipped"].parameters(5) == {"A": 2, "C": 6, "B": "z", "K": 9}
    assert [steps["all"].parameters(i) for i in range(2)] == [{"R": 1, "A": 0.0}, {"R": 2, "A": 1.0}]
    assert steps["drawn"].n == 20
    assert [steps["drawn"].parameters(i)["B"] for i in range(4)] == ["no", "on", 1000.0, "007"]


def test_what_fits_nowhere_is_said_for_each_resource() -> None:
    small, big = ResourceOffer("small", Capacity(2, 4 * 10**9)), ResourceOffer("big", Capacity(64, 10**9))
    text = "tasks: {a: {command: [x], resources: {memory: 2GB}}}\nresources: {compute: {cpu: 8, named: {matlab: 1}}}"
    problems = {problem.path: problem.message for problem in check_fits(compiled(text), [small, big])}
    assert set(problems) == {"resources.compute.cpu", "tasks.a.resources.memory", "resources.compute.named.matlab"}
    assert "small has 2" in problems["resources.compute.cpu"]
    assert "big has 1 GB" in problems["tasks.a.resources.memory"]
    assert "named" in problems["resources.compute.named.matlab"]
    whole = ResourceOffer("whole", Capacity(8, 2 * 10**9, named={"matlab": 1}))
    assert check_fits(compiled(text), [small, big, whole]) == []


def test_resources_that_are_denied_do_not_count() -> None:
    text = "tasks: {a: {command: [x]}}\ndeny: [here]"
    (problem,) = check_fits(compiled(text), [ResourceOffer("here", Capacity(4))])
    assert problem.path == "tasks.a"
    assert "here" in problem.remedy


@given(value=st.floats(allow_nan=False, allow_infinity=False))
@settings(deadline=None)
def test_floats_come_back_from_the_environment(value: float) -> None:
    assert float(encode_value(value)) == value


def test_values_in_the_environment() -> None:
    found = [encode_value(value) for value in (True, 3, "a b", [1, "é"], {"k": None}, 0.1)]
    assert found == ["true", "3", "a b", '[1,"é"]', '{"k":null}', "0.1"]


YAMLISH = st.text(alphabet="tasks:ab{}[]-&*!|>'\"\n #1.,$%@`?\t\\", max_size=120)
JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["1..3", "${a.O}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [
        "command",
        "script",
        "python",
        "task_inputs",
        "task_outputs",
        "foreach",
        "gather",
        "depends_on",
        "sample",
        "sweep",
        "rows",
        "retry",
        "resources",
        "timeout",
        "results",
        "environment",
    ]
)
LIKELY = st.sampled_from([["x"], ["a"], ["b"], {"X": "1..3"}, {"X": "${b.O}"}, {"O": "o"}, {"zip": ["X"]}])
TASKS = st.dictionaries(st.sampled_from("abc"), st.dictionaries(FIELDS, JSONISH | LIKELY, max_size=5), max_size=3)
OTHERS = ("name", "parameters", "scripts", "deadline", "budget", "objective", "results")
KNOWN = st.fixed_dictionaries({"tasks": TASKS}, optional=dict.fromkeys(OTHERS, JSONISH))


@given(source=YAMLISH | YAMLISH.map(lambda text: text.encode()) | st.binary(max_size=60) | KNOWN)
@settings(max_examples=300, deadline=None)
def test_the_parser_raises_nothing_but_its_own_error(source: Any) -> None:
    experiment, problems = outcome(source)
    assert all(problem.message and problem.remedy for problem in problems)
    assert bool(problems) == (experiment is None)
    for step in experiment.steps if experiment else ():
        assert CompiledStep.from_json(step.to_json()) == step
        step.parameters(step.n - 1)


def outcome(source: Any) -> tuple[CompiledExperiment | None, tuple[Problem, ...]]:
    try:
        return compile_document(parse_document(source, now=NOW)), ()
    except InvalidDocumentError as error:
        return None, error.problems


@pytest.mark.parametrize(
    "error",
    [
        InvalidDocumentError([Problem("tasks.a", "is bad", "1", "mend it"), Problem("b", "too")]),
        UnavailableError("later", retry_after_s=4),
        StaleError(path="x", remedy="y"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_cross_process_boundaries(error: AiravataError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert vars(again) == vars(error)
    assert str(again) == str(error) != ""


def test_the_schema_describes_every_field() -> None:
    schema = json_schema()
    assert {"tasks", "parameters", "scripts", "deadline", "objective"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False
    json.dumps(schema)


@pytest.mark.parametrize("deadline", ["2031-05-01T12:00:00Z", "2031-05-01T14:00:00+02:00"])
def test_deadlines_are_points_in_time(deadline: str) -> None:
    assert compiled(f"tasks: {{a: {{command: [x]}}}}\ndeadline: {deadline}").deadline == 1_935_403_200
