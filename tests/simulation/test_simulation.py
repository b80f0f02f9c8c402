"""Services, planner and memory stores on a virtual clock, with seeded faults; see sim_run.py and sim_invariants.py."""

from __future__ import annotations

import pytest
from sim_run import simulate


def test_every_seed_keeps_the_invariants_and_ends(seeds: range) -> None:
    for seed in seeds:
        try:
            simulate(seed)
        except Exception as error:  # noqa: BLE001 - whatever it is, the seed must be named
            pytest.fail(f"seed {seed} (repeat with --first-seed {seed} --seeds 1): {type(error).__name__}: {error}")


def test_a_seed_gives_the_same_run_again() -> None:
    assert simulate(3) == simulate(3)


def test_a_run_is_not_empty() -> None:
    runs = [simulate(seed) for seed in range(6)]
    assert sum(run.tasks for run in runs) > 20
    assert sum(run.plans for run in runs) > 20
    assert sum(run.checks for run in runs) > 500
