"""Choosing some tasks of an experiment: what comes along, and what the rest is called then."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airavata_scheduler.platform.domain.axes import Values
from airavata_scheduler.platform.domain.compiled import CompiledExperiment, CompiledStep, ProgramTemplate, Reference
from airavata_scheduler.platform.domain.derive import merge, needed, restrict
from airavata_scheduler.platform.domain.failures import RetryPolicy
from airavata_scheduler.platform.domain.sweep import Sweep
from airavata_scheduler.platform.services.merge_patch import merge_patch


def step(position: int, n: int, **more: Any) -> CompiledStep:
    values: dict[str, Any] = {
        "foreach": (), "fan_out": n, "gather": (), "after": (), "references": {}, **more,
    }  # fmt: skip
    return CompiledStep(
        position=position, name=f"s{position}", n=n, sweep=Sweep(Values("X", tuple(range(values["fan_out"])))),
        program=ProgramTemplate(), retry=RetryPolicy(), priority=0, time_s=None, **values,
    )  # fmt: skip


def experiment(*steps: CompiledStep) -> CompiledExperiment:
    return CompiledExperiment("e", "", (), 0, None, None, {}, (), (), steps)


CHAIN = (
    step(0, 5),
    step(1, 10, foreach=(0,), fan_out=2, references={"IN": Reference(0, "OUT", "foreach")}),
    step(2, 1, gather=(1,), references={"ALL": Reference(1, "OUT", "gather")}),
    step(3, 4, after=(2,)),
)


def test_a_task_comes_with_the_one_it_follows() -> None:
    assert needed(CHAIN, {1: [(4, 7)]}) == {0: [(2, 3)], 1: [(4, 7)]}


def test_a_step_comes_with_all_of_what_it_gathers_unless_part_of_that_is_wanted() -> None:
    assert needed(CHAIN, {2: [(0, 0)]}) == {0: None, 1: None, 2: [(0, 0)]}
    assert needed(CHAIN, {1: [(0, 0)], 2: [(0, 0)]}) == {0: [(0, 0)], 1: [(0, 0)], 2: [(0, 0)]}


def test_nothing_wanted_needs_nothing() -> None:
    assert needed(CHAIN, {}) == {}
    assert needed(CHAIN, {0: []}) == {}


def test_what_remains_is_numbered_anew_and_keeps_its_parameters() -> None:
    left = restrict(experiment(*CHAIN), needed(CHAIN, {1: [(4, 7)]}))
    first, second = left.steps
    assert (first.n, first.fan_out, first.foreach) == (2, 2, ())
    assert [first.parameters(i) for i in range(2)] == [{"X": 2}, {"X": 3}]
    assert (second.n, second.fan_out, second.foreach, second.references["IN"].step) == (4, 2, (0,), 0)
    tail = restrict(experiment(*CHAIN), {0: None, 1: None, 2: None, 3: [(1, 1), (3, 3)]}).steps[3]
    assert (tail.n, tail.after, [tail.parameters(i)["X"] for i in range(2)]) == (2, (2,), [1, 3])


RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)).map(lambda pair: (pair[0], pair[0] + pair[1])))


@given(RANGES)
def test_merge_keeps_the_indexes_and_nothing_touches(ranges: list[tuple[int, int]]) -> None:
    merged = merge(ranges)
    assert {i for first, last in merged for i in range(first, last + 1)} == {
        i for first, last in ranges for i in range(first, last + 1)
    }
    assert all(before[1] + 1 < after[0] for before, after in itertools.pairwise(merged))


@given(st.sets(st.integers(0, 9), min_size=1))
def test_every_task_that_is_left_finds_the_one_it_follows(wanted: set[int]) -> None:
    ranges = needed(CHAIN, {1: [(i, i) for i in wanted]})
    left = restrict(experiment(*CHAIN), ranges)
    upstream, follower = left.steps
    assert follower.n == upstream.n * follower.fan_out
    assert {upstream.parameters(i)["X"] for i in range(upstream.n)} == {i // 2 for i in wanted}


def test_merge_patch_as_in_its_standard() -> None:
    cases: list[tuple[Any, Any, Any]] = [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"a": "foo"}, "bar", "bar"),
    ]
    for target, patch, expected in cases:
        assert merge_patch(target, patch) == expected
