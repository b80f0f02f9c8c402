"""What is learnt from finished attempts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airavata_scheduler.scheduler_core import Failures, Observed, SnapshotError, estimate, prior_from_others


def test_without_observations_the_users_figure_stands() -> None:
    made = estimate(Observed(), 40.0)
    assert made.mean_s == pytest.approx(40.0)
    assert made.low_s is not None
    assert made.high_s is not None
    assert made.low_s < 40.0 < made.high_s


@pytest.mark.parametrize("figure", [10.0, 1000.0])
def test_a_figure_wrong_by_ten_is_corrected_within_tens_of_tasks(figure: float) -> None:
    seen = Observed().plus(100.0 * (1 + 0.1 * (i % 3 - 1)) for i in range(30))
    assert estimate(seen, figure).mean_s == pytest.approx(100.0, rel=0.08)


def test_uncertainty_shrinks_with_observations() -> None:
    widths = []
    for n in (0, 5, 50):
        made = estimate(Observed().plus([50.0] * n), 50.0)
        assert made.high_s is not None
        assert made.low_s is not None
        widths.append(made.high_s - made.low_s)
    assert widths == sorted(widths, reverse=True)


def test_failure_rates_start_small_and_follow_the_data() -> None:
    assert Failures().rate() == pytest.approx(0.02)
    assert Failures().plus(1000, 300).rate() == pytest.approx(0.3, abs=0.01)
    assert Failures().plus(10, 10).rate() < 1.0


def test_other_resources_inform_a_new_one_by_speed() -> None:
    seen = Observed().plus([10.0] * 200)
    assert prior_from_others([(seen, 2.0)], 4.0, None) == pytest.approx(5.0, rel=0.05)
    assert prior_from_others([], 2.0, 30.0) == pytest.approx(15.0)


@given(st.lists(st.floats(0.001, 1e5), max_size=20), st.lists(st.floats(0.001, 1e5), max_size=20))
def test_observations_can_be_added_in_any_split(left: list[float], right: list[float]) -> None:
    merged = Observed().plus(left).merged(Observed().plus(right))
    whole = Observed().plus([*left, *right])
    assert merged.n == whole.n
    assert merged.total == pytest.approx(whole.total, abs=1e-6)
    assert merged.squares == pytest.approx(whole.squares, abs=1e-5)


def test_impossible_values_are_refused_by_name() -> None:
    with pytest.raises(SnapshotError, match="observation"):
        Observed().plus([-1.0])
    with pytest.raises(SnapshotError, match="prior_s"):
        estimate(Observed(), 0.0)
