"""Three resources of different price and speed, a deadline, a budget: planned, chosen, run and explained for real."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Platform

Wait = Callable[..., None]

_JOINED_S = 90.0
#: Name -> price per core and hour, speed. The scripts sleep accordingly.
_RESOURCES = {"local": (100.0, 1.0), "mid": (300.0, 2.0), "fast": (900.0, 4.0)}
_BUDGET = 12.0
#: A task sleeps two seconds over the speed of the resource it finds itself on.
_DOCUMENT = """
name: "{name}"
scripts:
  work: |
    case "$PWD" in *exec.fast.*) sleep 0.5;; *exec.mid.*) sleep 1;; *) sleep 2;; esac
    echo "$I" > "$OUT"
  sum: cat $(cat "$PARTS") > "$OUT"
resources: {{compute: {{time: 2s}}}}
{limits}
tasks:
  work: {{script: work, task_inputs: {{I: 1..{n}}}, task_outputs: {{OUT: out.txt}}}}
  sum: {{script: sum, gather: [work], task_inputs: {{PARTS: "${{work.OUT}}"}}, task_outputs: {{OUT: all.txt}}}}
"""


#: Four files of a megabyte, read together where a gigabyte costs a thousand.
_READING = """
name: reading
scripts: {make: 'head -c 1000000 /dev/zero > "$OUT"'}
resources: {compute: {time: 1s}}
tasks:
  make: {script: make, task_inputs: {I: 1..4}, task_outputs: {OUT: out.bin}}
  use: {command: ["true"], gather: [make], task_inputs: {FILES: "${make.OUT}"}, allow: [fast]}
"""


class Nodes:
    """More Ray nodes on this machine, each a resource of its own."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._mark = f"AIRAVATA_E2E_NODE={os.getpid()}"

    def start(self, name: str) -> None:
        """As docs/operations.md says it is done."""
        head = json.loads((self._platform.home / "run/ray.json").read_text())["address"]
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self._platform.home / "secrets/ray_token")}
        key, _, value = self._mark.partition("=")
        words = ["start", f"--address={head}", f"--labels=airavata-resource={name}", "--num-cpus=2"]
        words += ["--disable-usage-stats", "--include-log-monitor=false", "--object-store-memory=80000000"]
        command = [str(Path(sys.executable).with_name("ray")), *words]
        environment = {**self._platform.environment(), **token, key: value}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stdout + done.stderr

    def processes(self) -> list[int]:
        """What was started here and all that came of it."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and self._mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found

    def end(self) -> None:
        """End everything at once."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def _nodes(_started: Platform, wait_until: Wait) -> Iterator[None]:
    nodes = Nodes(_started)
    try:
        for name in ("mid", "fast"):
            nodes.start(name)
        wait_until(lambda: {"local", "mid", "fast"} <= _live(_started), _JOINED_S)
        for name, (price, speed) in _RESOURCES.items():
            _started.call("resource", "update", name, "--price-per-hour", str(price), "--speed", str(speed))
        yield
        _started.call("resource", "update", "local", "--price-per-hour", "0", "--speed", "1")
    finally:
        nodes.end()
        wait_until(lambda: not {"mid", "fast"} & _live(_started), _JOINED_S)
        _started.is_rid_of("mid", "fast")


@pytest.fixture
def three(platform: Platform, _nodes: None) -> Platform:
    """The platform with its three resources."""
    return platform


def _live(platform: Platform) -> set[str]:
    return {row["resource"] for row in platform.json("worker", "list")["items"] if row["state"] == "live"}


def _events(platform: Platform, experiment: str) -> list[dict[str, Any]]:
    with platform.api() as api:
        return list(api.get(f"/experiments/{experiment}/events", params={"limit": 500}).json()["items"])


def test_a_plan_of_the_frontier_is_chosen_and_kept(three: Platform, tmp_path: Path, wait_until: Wait) -> None:
    n = 40
    file = three.document(_DOCUMENT.format(name="choice", n=n, limits=f"deadline: 10m\nbudget: {_BUDGET}"))
    picture = tmp_path / "frontier.png"
    found = three.experiment("plan", file, "--frontier", "--png", str(picture))
    assert (found["placed"], found["unplaced"]) == (n + 1, 0)
    assert found["cost"] <= _BUDGET
    assert found["finish_low_s"] < found["finish_s"] < found["finish_high_s"]
    points = found["frontier"]
    assert len(points) >= 8
    assert all(a["finish_s"] < b["finish_s"] and a["cost"] > b["cost"] for a, b in pairwise(points))
    assert all(point["cost"] <= _BUDGET + 1e-6 for point in points)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "fast" in three.call("experiment", "plan", file, "--frontier").stdout

    number = 1 + len(points) // 2
    experiment = three.experiment("run", file, "--plan", str(number))["id"]
    three.experiments.append(experiment)
    wait_until(lambda: three.counts(experiment)["succeeded"] >= 4, 60)
    told: dict[str, Any] = {}

    def is_learnt() -> bool:
        """Whether a plan was made since the first tasks ended."""
        told.update(three.experiment("explain", experiment, "work"))
        return any("finished attempts" in reason for reason in told["reasons"])

    wait_until(is_learnt, 20)
    assert {verdict["resource"] for verdict in told["resources"]} == set(_RESOURCES)
    assert any("budget" in reason for reason in told["reasons"])
    end = three.watch(experiment)
    assert (end["status"], end["tasks"]["succeeded"]) == ("SUCCEEDED", n + 1)
    view = three.experiment("status", experiment)
    assert view["cost"] <= _BUDGET
    # What it cost and where it ran is what was promised, as far as a busy machine keeps its pace.
    promised = points[number - 1]
    assert view["cost"] == pytest.approx(promised["cost"], rel=0.35)
    rows = three.experiment("results", experiment, "--limit", "100")["items"]
    ran = Counter(row["resource"] for row in rows if row["step"] == "work")
    assert set(ran) <= set(_RESOURCES)
    assert sum(ran.values()) == n
    assert not [event for event in _events(three, experiment) if event["kind"].startswith("experiment.budget")]


def test_a_budget_that_is_reached_pauses_and_more_money_goes_on(three: Platform, wait_until: Wait) -> None:
    # Its user says a tenth of what a task takes, so the plan has to learn that the money is not enough.
    document = _DOCUMENT.format(name="poor", n=20, limits="budget: 0.5").replace("time: 2s", "time: 0.2s")
    experiment = three.submit(document)
    wait_until(lambda: three.experiment("status", experiment)["status"] == "PAUSED", 60)
    assert any(event["kind"] == "experiment.budget_exhausted" for event in _events(three, experiment))
    told = three.experiment("explain", experiment)
    assert "budget" in told["summary"]
    assert "--budget" in told["remedy"]
    three.call("experiment", "resume", experiment, "--budget", "40")
    assert three.watch(experiment)["status"] == "SUCCEEDED"


def test_what_is_read_of_the_storage_is_paid_for_where_it_costs(three: Platform) -> None:
    three.call("resource", "update", "fast", "--egress-price", "1000")
    try:
        experiment = three.submit(_READING)
        assert three.watch(experiment)["status"] == "SUCCEEDED"
        again = three.experiment("plan", three.document(_READING))
    finally:
        three.call("resource", "update", "fast", "--egress-price", "0")
    rows = three.experiment("results", experiment)["items"]
    (use,) = [row for row in rows if row["step"] == "use"]
    assert use["cost"] == pytest.approx(4.0, abs=0.5), "four megabytes, and some time"
    assert all(row["cost"] < 0.5 for row in rows if row["step"] == "make")
    # What an earlier run wrote is known before the next one starts.
    assert again["moved_bytes"] == pytest.approx(4e6)
    assert again["cost"] > 4.0


def test_a_long_plan_of_many_tasks_is_thought_over(three: Platform, wait_until: Wait) -> None:
    experiment = three.submit(_DOCUMENT.format(name="many", n=700, limits="deadline: 1h"))

    def solver() -> str:
        with three.api() as api:
            return str(api.get("/plan").json()["solver"])

    # A quick plan of so many is a fluid; what was thought over names the script that was played.
    wait_until(lambda: solver().startswith("linear+"), 30)
    assert three.counts(experiment)["succeeded"] < 700
    three.call("experiment", "cancel", experiment)


def test_a_hard_deadline_pauses_what_cannot_end_in_time_and_a_later_one_goes_on(
    three: Platform, wait_until: Wait
) -> None:
    # Quickly afterwards, whatever it costs: with an hour to go the slowest would do.
    limits = "deadline: 10s\nhard_deadline: true\nobjective: fastest"
    experiment = three.submit(_DOCUMENT.format(name="hard", n=150, limits=limits))
    wait_until(lambda: three.experiment("status", experiment)["status"] == "PAUSED", 60)
    paused = three.experiment("status", experiment)
    assert 0 < paused["tasks"]["succeeded"] < 150, paused
    assert "hard deadline" in paused["reason"]
    assert any(event["kind"] == "experiment.deadline_out_of_reach" for event in _events(three, experiment))
    assert "--deadline" in three.experiment("explain", experiment)["remedy"]
    refused = three.call("experiment", "resume", experiment, "--deadline", "yesterday", code=2)
    assert "neither a date nor a duration" in refused.stderr
    three.call("experiment", "resume", experiment, "--deadline", "1h")
    assert three.watch(experiment)["status"] == "SUCCEEDED"


def test_a_deadline_in_danger_is_announced_while_the_experiment_runs(three: Platform, wait_until: Wait) -> None:
    document = _DOCUMENT.format(name="late", n=400, limits="deadline: 20s\nobjective: on_time")
    experiment = three.submit(document)
    wait_until(lambda: any(event["kind"] == "experiment.deadline_at_risk" for event in _events(three, experiment)), 30)
    told = three.experiment("explain", experiment)
    assert any("deadline" in reason for reason in told["reasons"])
    three.call("experiment", "cancel", experiment)
