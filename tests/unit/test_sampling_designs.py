"""The designs are what their names say, for every seed, and can be computed in any order."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, qmc

from airavata_scheduler.platform.domain.sampling import (
    MAX_SOBOL_DIMENSIONS,
    METHODS,
    Design,
    Method,
    direction_numbers,
    permuted,
    sobol_bits,
)


def points(method: Method, n: int, dimensions: int, seed: int) -> np.ndarray:
    design = Design(method, n, dimensions, seed)
    return np.array([[design.at(i, d) for d in range(dimensions)] for i in range(n)])


@given(n=st.integers(1, 700), key=st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
def test_a_permutation_reaches_every_place_once(n: int, key: int) -> None:
    assert sorted(permuted(i, n, key) for i in range(n)) == list(range(n))


def test_permutations_of_many_are_not_the_identity_and_differ_between_keys() -> None:
    n = 10**9
    one, two = ([permuted(i, n, key) for i in range(100)] for key in (1, 2))
    assert one != two
    assert len(set(one)) == 100
    assert abs(np.corrcoef(one, range(100))[0, 1]) < 0.4


@given(n=st.integers(1, 300), dimensions=st.integers(1, 6), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=40, deadline=None)
def test_a_latin_hypercube_has_one_point_in_each_stratum(n: int, dimensions: int, seed: int) -> None:
    strata = np.floor(points("latin_hypercube", n, dimensions, seed) * n).astype(int)
    for dimension in range(dimensions):
        assert sorted(strata[:, dimension]) == list(range(n))


def test_sobol_without_shift_is_that_of_scipy() -> None:
    n = 2048
    expected = qmc.Sobol(MAX_SOBOL_DIMENSIONS, scramble=False).random(n)
    directions = [direction_numbers(d) for d in range(MAX_SOBOL_DIMENSIONS)]
    ours = np.array([[sobol_bits(i, v) / 2**32 for v in directions] for i in range(n)])
    np.testing.assert_array_equal(ours, expected)


@given(seed=st.integers(0, 2**63 - 1))
@settings(max_examples=20, deadline=None)
def test_shifted_sobol_points_stay_stratified(seed: int) -> None:
    strata = np.floor(points("sobol", 64, 5, seed) * 64).astype(int)
    for dimension in range(5):
        assert sorted(strata[:, dimension]) == list(range(64))


def test_designs_cover_space_better_than_chance() -> None:
    worse = qmc.discrepancy(points("random", 256, 4, 7))
    assert qmc.discrepancy(points("latin_hypercube", 256, 4, 7)) < worse
    assert qmc.discrepancy(points("sobol", 256, 4, 7)) < worse / 5


def test_random_is_uniform_and_its_dimensions_are_independent() -> None:
    found = points("random", 4000, 2, 11)
    assert kstest(found[:, 0], "uniform").pvalue > 0.001
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.06


@pytest.mark.parametrize("method", METHODS)
def test_any_order_gives_the_same_points_and_seeds_differ(method: Method) -> None:
    order = list(range(50))
    random.Random(3).shuffle(order)
    design = Design(method, 50, 3, 5)
    shuffled = {i: [design.at(i, d) for d in range(3)] for i in order}
    assert [shuffled[i] for i in range(50)] == points(method, 50, 3, 5).tolist()
    assert points(method, 50, 3, 5).tolist() != points(method, 50, 3, 6).tolist()


@pytest.mark.parametrize("method", METHODS)
@given(n=st.sampled_from([1, 2, 2**31, 2**32]), at=st.floats(0, 1), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=50, deadline=None)
def test_points_lie_in_the_unit_interval(method: Method, n: int, at: float, seed: int) -> None:
    index = min(int(at * n), n - 1)
    assert 0 <= Design(method, n, 1, seed).at(index, 0) < 1


def test_a_seed_means_the_same_for_ever() -> None:
    found = {method: round(Design(method, 100, 2, 42).at(17, 1), 12) for method in METHODS}
    assert found == FROZEN


#: Changing these numbers changes the tasks of experiments that were already run.
FROZEN = {"latin_hypercube": 0.339080100562, "sobol": 0.566290988354, "random": 0.908010056158}


def test_what_a_method_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="latin_hypercube"):
        Design("sobol", 10, MAX_SOBOL_DIMENSIONS + 1)
    with pytest.raises(ValueError, match="at least 1"):
        Design("random", 0, 1)
