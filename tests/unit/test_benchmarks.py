"""What the benchmarks conclude from their figures."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import missed, verdict
from benchmarks.catalogue import CATALOGUE, Figure, read
from benchmarks.report import figures
from benchmarks.stages import read_collapsed, stage_of


def section(key: str, value: float, spawn_per_s: float = 1000.0) -> dict[str, object]:
    return {"figures": {key: value}, "spawn_per_s": spawn_per_s}


def test_names_are_unique() -> None:
    names = [figure.name for figure in CATALOGUE]
    assert len(set(names)) == len(names)


def test_a_must_is_an_upper_limit_unless_more_is_better() -> None:
    assert Figure("s", "k", "", "", must=3.0).meets(2.9, 3.0)
    assert not Figure("s", "k", "", "", must=3.0).meets(3.1, 3.0)
    assert Figure("s", "k", "", "", must=0.55, higher_is_better=True).meets(0.6, 0.55)
    assert not Figure("s", "k", "", "", must=0.55, higher_is_better=True).meets(0.5, 0.55)


@pytest.mark.parametrize(("scale", "now", "gain"), [("time", 0.5, 0.0), ("rate", 2.0, 0.0), ("none", 0.5, 0.5)])
def test_a_machine_twice_as_fast_is_no_improvement(scale: str, now: float, gain: float) -> None:
    figure = Figure("s", "k", "", "", scale=scale, higher_is_better=scale == "rate")  # type: ignore[arg-type]
    assert figure.gain(now, 1.0, spawn_now=2000.0, spawn_then=1000.0) == pytest.approx(gain)


def test_only_more_than_noise_is_told() -> None:
    figure = Figure("s", "k", "", "", must=1.0, noise=0.2)
    assert not verdict(figure, section("k", 0.9), section("k", 1.0))
    assert verdict(figure, section("k", 0.5), section("k", 1.0)) == "better by 50%"
    assert verdict(figure, section("k", 1.5), section("k", 1.0)) == "MUST MISSED, worse by 50%"
    assert not verdict(figure, section("k", 0.9), None)


def test_a_figure_that_a_section_did_not_deliver_is_missed() -> None:
    assert "response.first_start_s" in missed({"response": section("cancel_100k_s", 0.1)})
    assert missed({"noop_10k": section("ms", 0.1)}) == []
    assert missed({"noop_10k": section("ms", 0.2)}) == ["noop_10k.ms"]


def test_figures_come_from_the_line_of_their_section() -> None:
    line = {"mode": "noop", "tasks": 1000, "tasks_per_s": 10_000.0, "cpu_s": 0.05}
    assert read("noop_10k", line) == {"ms": pytest.approx(0.1)}
    assert read("noop_100k", line) == {"ms": pytest.approx(0.1), "cpu_ms": pytest.approx(0.05)}
    peers = {"ray": {"ours_to_theirs": 2.0}, "dask": {"failed": "no network"}}
    assert read("process", {"ratio": 0.7, "peers": peers}) == {"ratio": 0.7, "to_ray": 2.0}
    assert read("process", {"ratio": 0.7, "peers": {"ray": {"failed": "no network"}}}) == {"ratio": 0.7}


def test_the_table_marks_what_was_missed_and_what_was_not_measured() -> None:
    table = figures({"noop_10k": section("ms", 0.2)})
    assert "**0.2 ms, missed**" in table
    assert "not measured" in table


def test_a_stack_belongs_to_the_service_that_called_the_driver() -> None:
    driver, ray = "execute (psycopg/cursor.py:1)", "main_loop (ray/_private/worker.py:1)"
    assert stage_of([ray, "claim (airavata_scheduler/adapters/persistence/task_store.py:9)", driver]) == "claim"
    assert stage_of([ray, driver]) == "database driver"
    assert stage_of(["f (somewhere.py:1)"]) == "other"


def test_stacks_are_added_up_without_waiting() -> None:
    samples = read_collapsed("a (x.py:1);b (y.py:2) 3\na (x.py:1) 1\nSpawner.run (spawner.py:91) 50\n")
    assert samples.total == 4
    assert dict(samples.own) == {"b (y.py)": 3, "a (x.py)": 1}
    assert dict(samples.within) == {"b (y.py)": 3, "a (x.py)": 4}
