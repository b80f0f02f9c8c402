"""A sweep is a pure function of its JSON: every combination once, exact values, any order."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airavata_scheduler.platform.domain.axes import Axis, Interval, Rows, Space, Steps, Values
from airavata_scheduler.platform.domain.sweep import Product, Sample, Sweep, Zip


def all_of(sweep: Sweep) -> list[dict[str, Any]]:
    return sweep.decode_many(range(sweep.n))


def values_of(axis: Axis) -> list[Any]:
    return [row["X"] for row in all_of(Sweep(Product((axis,))))]


@st.composite
def products(draw: st.DrawFn) -> list[list[Any]]:
    scalars = st.one_of(st.integers(), st.booleans(), st.text(max_size=5), st.floats(allow_nan=False))
    return draw(st.lists(st.lists(scalars, min_size=1, max_size=5, unique_by=repr), max_size=4))


@given(lists=products())
@settings(deadline=None)
def test_a_product_decodes_to_every_combination_once_in_order(lists: list[list[Any]]) -> None:
    axes = tuple(Values(f"P{i}", tuple(values)) for i, values in enumerate(lists))
    expected = [dict(zip((f"P{i}" for i in range(len(lists))), row, strict=True)) for row in product(*lists)]
    assert all_of(Sweep(Product(axes))) == expected


@given(lists=products(), n=st.integers(1, 20), seed=st.integers(0, 2**63 - 1))
@settings(deadline=None)
def test_json_brings_the_same_sweep_back(lists: list[list[Any]], n: int, seed: int) -> None:
    axes: tuple[Axis, ...] = tuple(Values(f"P{i}", tuple(values)) for i, values in enumerate(lists))
    sample = Sample((Interval("lo", 0, 1.5), Interval("lg", 1, 100, log=True, whole=True)), "latin_hypercube", n, seed)
    sweep = Sweep(Product((*axes, Zip((Steps("S", 0, 1, 0.5), Space("G", "geomspace", 1, 9, 3))), sample)))
    again = Sweep.from_json(json.loads(json.dumps(sweep.to_json())))
    assert again == sweep
    some = range(min(100, sweep.n))
    assert again.decode_many(some) == sweep.decode_many(some)


@given(
    n=st.integers(1, 200),
    cuts=st.lists(st.integers(0, 199), min_size=2, max_size=12, unique=True).map(sorted),
)
@settings(deadline=None)
def test_a_selection_decodes_what_was_selected(n: int, cuts: list[int]) -> None:
    ranges = [(a, b) for a, b in zip(cuts[::2], cuts[1::2], strict=False) if b < n]
    sweep = Sweep(Product((Steps("X", 0, n - 1),)))
    chosen = [i for first, last in ranges for i in range(first, last + 1)]
    selected = Sweep.from_json(sweep.select(ranges).to_json())
    assert selected.n == len(chosen)
    assert [row["X"] for row in all_of(selected)] == chosen
    assert [selected.original(i) for i in range(selected.n)] == chosen
    if chosen:
        assert selected.select([(0, 0)]).original(0) == chosen[0]


@pytest.mark.parametrize("ranges", [[(3, 2)], [(0, 5), (5, 6)], [(0, 10)], [(-1, 2)]])
def test_selections_that_make_no_sense_are_refused(ranges: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="out of order or outside"):
        Sweep(Product((Steps("X", 0, 9),))).select(ranges)


@given(start=st.integers(-1000, 1000), step=st.integers(-9, 9).filter(bool), n=st.integers(1, 50))
@settings(deadline=None)
def test_whole_ranges(start: int, step: int, n: int) -> None:
    found = values_of(Steps("X", start, start + (n - 1) * step, step))
    assert found == [start + k * step for k in range(n)]
    assert all(type(x) is int for x in found)


@given(tenths=st.integers(-1000, 1000), n=st.integers(1, 400))
@settings(deadline=None)
def test_fractions_do_not_drift(tenths: int, n: int) -> None:
    found = values_of(Steps("X", tenths / 10, (tenths + n - 1) / 10, 0.1))
    assert found == [(tenths + k) / 10 for k in range(n)]


def test_a_range_stops_before_its_end_if_the_step_does_not_meet_it() -> None:
    assert values_of(Steps("X", 1, 10, 4)) == [1, 5, 9]
    assert values_of(Steps("X", 0, 1, 0.3)) == [0.0, 0.3, 0.6, 0.9]


@pytest.mark.parametrize(
    ("scale", "start", "stop"), [("linspace", -1.5, 7), ("logspace", -3, 2), ("geomspace", 1e-3, 50)]
)
def test_spaces_are_those_of_numpy(scale: str, start: float, stop: float) -> None:
    np.testing.assert_allclose(
        values_of(Space("X", scale, start, stop, 23)), getattr(np, scale)(start, stop, 23), rtol=1e-13
    )


@pytest.mark.parametrize("scale", ["linspace", "geomspace"])
@given(start=st.floats(1e-9, 1e9), stop=st.floats(1e-9, 1e9), n=st.integers(2, 50))
@settings(max_examples=50, deadline=None)
def test_the_ends_of_a_space_are_exact(scale: str, start: float, stop: float, n: int) -> None:
    axis = Space("X", scale, start, stop, n)
    found: dict[str, Any] = {}
    axis.put(0, found)
    assert found["X"] == start
    axis.put(n - 1, found)
    assert found["X"] == stop


def test_a_huge_sweep_costs_nothing() -> None:
    sweep = Sweep(Product(tuple(Steps(f"P{i}", 1, 10**12) for i in range(3))))
    assert sweep.n == 10**36
    assert sweep.decode(sweep.n - 1) == {"P0": 10**12, "P1": 10**12, "P2": 10**12}
    assert sweep.decode(10**12) == {"P0": 1, "P1": 2, "P2": 1}


def test_rows_bind_several_parameters() -> None:
    sweep = Sweep(Product((Rows(("A", "B"), ((1, "x"), (2, "y"))), Values("C", (0, 1)))))
    assert sweep.names == ("A", "B", "C")
    assert sweep.decode(3) == {"A": 2, "B": "y", "C": 1}


def test_zip_goes_side_by_side_and_needs_equal_lengths() -> None:
    assert all_of(Sweep(Zip((Values("A", (1, 2)), Values("B", (3, 4)))))) == [{"A": 1, "B": 3}, {"A": 2, "B": 4}]
    with pytest.raises(ValueError, match="A has 2, B has 1"):
        Zip((Values("A", (1, 2)), Values("B", (3,))))


@given(n=st.integers(1, 200), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=40, deadline=None)
def test_samples_stay_in_their_intervals_and_use_every_stratum(n: int, seed: int) -> None:
    parts = (
        (Interval("F", -2, 3.5), Interval("L", 1e-5, 10, log=True), Interval("K", 1, n, whole=True)) if n > 1 else ()
    )
    sweep = Sweep(Sample((*parts, Values("V", tuple(range(n)))), "latin_hypercube", n, seed))
    found = all_of(sweep)
    assert sorted(row["V"] for row in found) == list(range(n))
    for row in found if n > 1 else ():
        assert -2 <= row["F"] <= 3.5
        assert 1e-5 <= row["L"] <= 10
    if n > 1:
        assert sorted(row["K"] for row in found) == list(range(1, n + 1))


def test_indexes_outside_are_refused() -> None:
    sweep = Sweep(Product((Values("A", (1, 2)),)))
    for index in (-1, 2):
        with pytest.raises(IndexError, match=r"0\.\.1"):
            sweep.decode(index)
    assert Sweep().decode(0) == {}
