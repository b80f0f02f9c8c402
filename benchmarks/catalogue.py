"""Every figure: what it is, what it must be, and how two runs of it are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Scale = Literal["time", "rate", "none"]


@dataclass(frozen=True, slots=True)
class Figure:
    """``scale``: whether it is a time or a rate that depends on the machine; those are compared in units of the bare
    spawn rate. ``noise``: by what part two runs of the same code may differ. Without must and aim it is only shown.
    """

    section: str
    key: str
    title: str
    unit: str
    must: float | None = None
    aim: float | None = None
    higher_is_better: bool = False
    scale: Scale = "none"
    noise: float = 0.25

    @property
    def name(self) -> str:
        """Unique."""
        return f"{self.section}.{self.key}"

    def meets(self, value: float, limit: float | None) -> bool:
        """Whether a value is as good as a limit; without a limit everything is."""
        return limit is None or (value >= limit if self.higher_is_better else value <= limit)

    def gain(self, now: float, then: float, spawn_now: float, spawn_then: float) -> float:
        """By which part it got better (above 0) or worse, with the machines' speeds taken out."""
        speed = spawn_now / spawn_then
        compared = now * speed if self.scale == "time" else now / speed if self.scale == "rate" else now
        if not then:
            return 0.0 if abs(compared) < 1e-9 else -1.0
        change = compared / then - 1
        return change if self.higher_is_better else -change


def _throughput() -> tuple[Figure, ...]:
    cost = "our own cost per task, no-op workers"
    return (
        Figure("noop_10k", "ms", f"{cost}, 10k", "ms", 0.15, 0.06, scale="time"),
        Figure("noop_100k", "ms", f"{cost}, 100k", "ms", 0.15, 0.06, scale="time"),
        Figure("noop_100k", "cpu_ms", "CPU time of the same 100k", "ms", scale="time"),
        Figure("million", "ms_per_task", f"{cost}, 1M, one in a thousand fails", "ms", 0.15, 0.06, scale="time"),
        Figure("million", "cpu_ms_per_task", "CPU time of the same 1M", "ms", scale="time"),
        Figure("million", "linearity", "CPU per task, last tenth of 1M over second tenth", "", 1.25, 1.1, noise=0.15),
        Figure("million", "wall_linearity", "the same of wall time, with all that others do", "", noise=0.5),
        Figure("million", "growth_bytes", "memory growth per task done, 1M", "B", 200, 0, noise=1.0),
        Figure(
            "process",
            "ratio",
            "3,000 x `/bin/true`, 2 slots, against the bare spawn rate",
            "",
            0.55,
            0.80,
            True,
            noise=0.1,
        ),
        Figure(
            "process", "to_ray", "the same against Ray tasks with `subprocess.run`", "x", 1.7, 2.5, True, noise=0.15
        ),
        Figure(
            "process_100k",
            "ratio",
            "100,000 x `/bin/true`, against the bare spawn rate",
            "",
            None,
            None,
            True,
            noise=0.1,
        ),
        Figure("efficiency", "efficiency_10ms", "10 ms tasks against ideal", "", 0.85, None, True, noise=0.03),
        Figure("efficiency", "efficiency_100ms", "100 ms tasks against ideal", "", 0.97, None, True, noise=0.01),
        Figure("efficiency", "efficiency_1s", "1 s tasks against ideal", "", 0.995, None, True, noise=0.003),
    )


def _response() -> tuple[Figure, ...]:
    return (
        Figure("response", "submit_100k_s", "submit 100k tasks, until stored and queryable", "s", 3, 1, scale="time"),
        Figure("response", "pending_bytes", "memory per pending task in all our processes", "B", 200, 0, noise=3.0),
        Figure("response", "first_start_s", "submit to first start, idle platform", "s", 1, 0.3, scale="time"),
        Figure("response", "cancel_100k_s", "cancel 100k pending + 2 running", "s", 3, 1, scale="time"),
        Figure("response", "files_10k", "files per 10k tasks without outputs", "", 50, 20),
        Figure(
            "response",
            "idle_cpu_percent",
            "idle platform, our CPU, Ray's own excluded",
            "% of a core",
            3,
            1,
            scale="time",
        ),
        Figure(
            "response",
            "idle_whole_percent",
            "the same with Ray's library in our processes",
            "% of a core",
            scale="time",
        ),
        Figure(
            "response", "idle_empty_actor_percent", "an empty Ray actor, for comparison", "% of a core", scale="time"
        ),
        Figure("response", "idle_driver_percent", "a driver that does nothing", "% of a core", scale="time"),
        Figure("response", "idle_serve_percent", "Serve's controller and proxy", "% of a core", scale="time"),
        Figure("response", "up_cold_s", "`airavata up`, new home", "s", scale="time"),
        Figure("response", "up_warm_s", "`airavata up`, known home", "s", scale="time"),
        Figure("response", "down_s", "`airavata down`", "s", scale="time"),
    )


def _size() -> tuple[Figure, ...]:
    calls = {"list": "`list`", "status": "`status`", "tasks_failed": "`tasks --failed`", "cancel": "`cancel`"}
    api = (
        Figure(
            "million", f"api_{key}_ms", f"{title} beside 1M tasks, API call", "ms", 100, None, scale="time", noise=0.5
        )
        for key, title in calls.items()
    )
    cli = (
        Figure("million", f"cli_{key}_s", f"{title} beside 1M tasks, whole command", "s", scale="time")
        for key, title in calls.items()
    )
    return (
        *api,
        *cli,
        Figure("million", "results_s", "results table of 1M tasks, Parquet through the API", "s", scale="time"),
        Figure(
            "million", "results_growth_bytes", "memory growth of the API meanwhile, per row", "B", 200, 0, noise=1.0
        ),
    )


def _crowd() -> tuple[Figure, ...]:
    return (
        Figure(
            "crowd", "crowd_ratio", "100 experiments of 20 users, against one with as many tasks", "", None, None, True
        ),
        Figure("crowd", "crowd_submit_p99_ms", "a request to submit meanwhile, p99", "ms", scale="time", noise=0.5),
        Figure("crowd", "crowd_start_p99_s", "submission to first start meanwhile, p99", "s", scale="time", noise=0.5),
        Figure("crowd", "api_p50_ms", "API, 50 clients with pauses of 1 s, p50", "ms", scale="time"),
        Figure("crowd", "api_p99_ms", "the same, p99", "ms", scale="time", noise=0.5),
        Figure("crowd", "api_full_p50_ms", "API, 50 clients without pauses, p50", "ms", scale="time"),
        Figure("crowd", "api_full_p99_ms", "the same, p99", "ms", scale="time", noise=0.5),
        Figure("crowd", "api_full_per_s", "the same, answers a second", "/s", None, None, True, scale="rate"),
        Figure("crowd", "ws_last_ms", "event to the last of 200 WebSockets", "ms", scale="time", noise=0.5),
        Figure("crowd", "ws_worst_ms", "the same, slowest of 20 events", "ms", scale="time", noise=1.0),
    )


CATALOGUE: tuple[Figure, ...] = (*_throughput(), *_response(), *_size(), *_crowd())


def read(section: str, line: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a section from its line of JSON."""
    found = dict(line)
    if "tasks_per_s" in line and line.get("mode") == "noop":
        found |= {"ms": 1000 / line["tasks_per_s"], "cpu_ms": 1000 * line["cpu_s"] / line["tasks"]}
    if "peers" in line:
        found["to_ray"] = line["peers"].get("ray", {}).get("ours_to_theirs")
    return {
        figure.key: float(found[figure.key])
        for figure in CATALOGUE
        if figure.section == section and found.get(figure.key) is not None
    }
