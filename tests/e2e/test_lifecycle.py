"""Cancel, pause, resume, retry, resubmit, derive, delete: all of them act on real processes."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Platform

_SLEEP = "name: {name}\ntasks: {{a: {{command: [sleep, '{seconds}'], task_inputs: {{I: 1..{n}}}}}}}"
_STUBBORN = """
name: stubborn
scripts:
  stay: |
    #!/bin/sh
    trap '' TERM
    (trap '' TERM; setsid sleep 3000) &
    echo started > "$MARK"
    while :; do sleep 1; done
tasks: {{stay: {{script: stay, grace: 1s, task_inputs: {{MARK: {{value: "{mark}"}}}}}}}}
"""
_PART = """
name: part
parameters: {{GOOD: {{type: path, default: "{good}"}}, FACTOR: 2}}
scripts:
  work: |
    #!/bin/sh
    echo run >> "{runs}/$I"
    [ "$I" -le 4 ] || [ -e "$GOOD" ] || exit 1
    echo $((I * FACTOR)) > "$OUT"
  sum: |
    #!/bin/sh
    xargs cat < "$ALL" | awk '{{ s += $1 }} END {{ print s }}' > "$SUM"
tasks:
  work:
    script: work
    task_inputs: {{I: 1..6}}
    task_outputs: {{OUT: out.txt}}
    results: {{value: OUT}}
    retry: {{max_attempts: 1}}
  sum:
    script: sum
    gather: [work]
    task_inputs: {{ALL: "${{work.OUT}}"}}
    task_outputs: {{SUM: s.txt}}
    results: {{sum: SUM}}
"""

Wait = Callable[..., None]


def _runs(folder: Path) -> dict[int, int]:
    return {int(path.name): len(path.read_text().split()) for path in folder.iterdir()}


@pytest.fixture
def part(platform: Platform, tmp_path: Path) -> tuple[str, Path, Path]:
    """An experiment of which 4 of 6 tasks succeeded; the file that heals it; where runs are counted."""
    good, runs = tmp_path / "good", tmp_path / "runs"
    runs.mkdir()
    end = platform.run(_PART.format(good=good, runs=runs), code=7)
    assert (end["status"], end["tasks"]["succeeded"], end["tasks"]["failed"], end["tasks"]["skipped"]) == (
        "PARTIAL",
        4,
        2,
        1,
    )
    return end["id"], good, runs


def test_cancel_ends_running_processes(platform: Platform, wait_until: Wait) -> None:
    experiment = platform.submit(_SLEEP.format(name="cancel", seconds=3111, n=50))
    wait_until(lambda: len(platform.tasks_alive(experiment)) >= 2, 30)
    told = platform.experiment("cancel", experiment, "--reason", "enough of it")
    assert told["status"] == "CANCELED"
    wait_until(lambda: not platform.tasks_alive(experiment), 15)
    state = platform.experiment("status", experiment)
    assert state["tasks"]["canceled"] == 50
    assert state["reason"] == "enough of it"
    assert platform.watch(experiment, code=7)["status"] == "CANCELED"
    assert platform.experiment("cancel", experiment)["status"] == "CANCELED"


def test_cancel_ends_what_ignores_term_and_its_daemons(platform: Platform, wait_until: Wait, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    experiment = platform.submit(_STUBBORN.format(mark=mark))
    wait_until(mark.exists, 30)
    assert len(platform.tasks_alive(experiment)) >= 2
    platform.experiment("cancel", experiment)
    wait_until(lambda: not platform.tasks_alive(experiment), 20)
    # The slots are free again.
    assert platform.run(_SLEEP.format(name="after", seconds=0, n=4))["status"] == "SUCCEEDED"


def test_timeout_ends_the_task_and_names_the_cause(platform: Platform, wait_until: Wait) -> None:
    text = "tasks: {a: {command: [sleep, '3222'], timeout: 1s, grace: 1s, retry: {max_attempts: 1}}}"
    end = platform.run(text, code=7)
    assert platform.experiment("task", f"{end['id']}/a/0")["cause"] == "timeout"
    wait_until(lambda: not platform.tasks_alive(end["id"]), 15)


def test_pause_and_resume(platform: Platform, wait_until: Wait) -> None:
    experiment = platform.submit(_SLEEP.format(name="pause", seconds=0.4, n=30))
    wait_until(lambda: platform.counts(experiment)["succeeded"] >= 2, 30)
    assert platform.experiment("pause", experiment, "--reason", "lunch")["status"] == "PAUSED"
    wait_until(lambda: not platform.tasks_alive(experiment), 15)
    wait_until(lambda: not any(platform.counts(experiment)[state] for state in ("running", "collecting")), 15)
    counts = platform.counts(experiment)
    assert 0 < counts["succeeded"] < 30
    # Nothing moves while another experiment gets the slots.
    assert platform.run(_SLEEP.format(name="meanwhile", seconds=0.1, n=6))["status"] == "SUCCEEDED"
    assert platform.counts(experiment)["succeeded"] == counts["succeeded"]
    end = platform.experiment("resume", experiment, "--watch")
    assert (end["status"], end["tasks"]["succeeded"]) == ("SUCCEEDED", 30)


def test_retry_runs_only_what_failed(platform: Platform, part: tuple[str, Path, Path]) -> None:
    experiment, good, runs = part
    good.touch()
    end = platform.experiment("retry", experiment, "--watch")
    assert (end["id"], end["status"], end["tasks"]["succeeded"]) == (experiment, "SUCCEEDED", 7)
    assert _runs(runs) == {1: 1, 2: 1, 3: 1, 4: 1, 5: 2, 6: 2}
    rows = platform.experiment("results", experiment)["items"]
    assert [row["sum"] for row in rows if row["step"] == "sum"] == [sum(2 * i for i in range(1, 7))]


def test_resubmit_runs_all_of_it_anew(platform: Platform, part: tuple[str, Path, Path]) -> None:
    experiment, good, runs = part
    good.touch()
    end = platform.experiment("resubmit", experiment, "--param", "FACTOR=10", "--watch")
    assert end["id"] != experiment
    assert end["tasks"]["succeeded"] == 7
    assert set(_runs(runs).values()) == {2}
    rows = platform.experiment("results", end["id"])["items"]
    assert [row["value"] for row in rows if row["step"] == "work"] == [10 * i for i in range(1, 7)]


def test_derive_failed_with_a_change(platform: Platform, part: tuple[str, Path, Path], tmp_path: Path) -> None:
    experiment, _, runs = part
    (tmp_path / "other").touch()
    words = ("--select", "failed", "--param", f"GOOD={tmp_path / 'other'}", "--change", "description=second try")
    end = platform.experiment("derive", experiment, *words, "--name", "derived", "--watch")
    assert (end["status"], end["tasks"]["failed"]) == ("SUCCEEDED", 0)
    assert _runs(runs) == {1: 1, 2: 1, 3: 1, 4: 1, 5: 2, 6: 2}
    state = platform.experiment("status", end["id"])
    assert (state["name"], state["description"], state["derived_from"]) == ("derived", "second try", experiment)


def test_derive_succeeded_leaves_the_failed_out(platform: Platform, part: tuple[str, Path, Path]) -> None:
    experiment, _, runs = part
    end = platform.experiment("derive", experiment, "--select", "succeeded", "--watch")
    assert end["status"] == "SUCCEEDED"
    assert [(i, n) for i, n in sorted(_runs(runs).items()) if i > 4] == [(5, 1), (6, 1)]
    rows = platform.experiment("results", end["id"])["items"]
    assert [row["I"] for row in rows if row["step"] == "work"] == [1, 2, 3, 4]


def test_draft_starts_on_demand(platform: Platform) -> None:
    text = _SLEEP.format(name="draft", seconds=0, n=2)
    experiment = platform.submit(text, "--draft")
    assert platform.experiment("status", experiment)["status"] == "DRAFT"
    assert platform.experiment("start", experiment, "--watch")["tasks"]["succeeded"] == 2


def test_delete_removes_outputs_and_needs_the_end(platform: Platform, wait_until: Wait) -> None:
    running = platform.submit(_SLEEP.format(name="running", seconds=3333, n=1))
    platform.call("experiment", "delete", running, "--yes", code=1)
    platform.experiment("cancel", running)
    wait_until(lambda: not platform.tasks_alive(running), 15)
    end = platform.run("tasks: {a: {script: s, task_outputs: {OUT: o.txt}}}\nscripts: {s: 'echo 1 > $OUT'}")
    folder = platform.home / "storage" / end["id"]
    assert folder.is_dir()
    assert platform.experiment("delete", end["id"], "--yes")["deleted"]
    wait_until(lambda: not folder.exists(), 30)
    platform.call("experiment", "status", end["id"], code=5)


def test_ctrl_c_ends_the_watching_only(platform: Platform, wait_until: Wait) -> None:
    experiment = platform.submit(_SLEEP.format(name="go on", seconds=3444, n=1))
    # Whoever runs the tests in the background may have switched interrupts off for everything below.
    interruptible = ["env", "--default-signal=INT"]
    command = [*interruptible, platform.exe, "experiment", "watch", experiment, "--home", str(platform.home)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=platform.environment()
    ) as watching:
        assert watching.stdout is not None
        first = watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        said = first + watching.stdout.read()
    assert watching.returncode == 130
    assert "goes on" in said
    assert f"experiment watch {experiment}" in said
    assert "Traceback" not in said
    assert platform.experiment("status", experiment)["status"] == "RUNNING"
    platform.experiment("cancel", experiment)
    wait_until(lambda: not platform.tasks_alive(experiment), 15)


def test_exit_codes(platform: Platform, tmp_path: Path) -> None:
    good = platform.document("tasks: {a: {command: ['true']}}")
    platform.call("experiment", "validate", good, code=0)
    platform.call("experiment", "run", str(tmp_path / "nowhere.yml"), code=2)
    platform.call("experiment", "tasks", "last", "--limit", "none", code=2)
    wrong = {**platform.environment(), "AIRAVATA_SERVER_URL": platform.url.removesuffix("/api/v1")}
    elsewhere = {**wrong, "AIRAVATA_TOKEN": "not a token", "AIRAVATA_CONFIG_DIR": str(tmp_path / "client")}
    command = [platform.exe, "experiment", "list"]
    assert subprocess.run(command, env=elsewhere, capture_output=True).returncode == 3
    nobody = {**elsewhere, "AIRAVATA_SERVER_URL": "http://127.0.0.1:9"}
    assert subprocess.run(command, env=nobody, capture_output=True, timeout=60).returncode == 4
    platform.call("experiment", "status", "e-nowhere", code=5)
    platform.call("experiment", "run", platform.document("tasks: {a: {command: ['true'], colour: red}}"), code=6)
    platform.run("tasks: {a: {command: ['false'], retry: {max_attempts: 1}}}", code=7)


def test_retries_are_counted_and_the_last_attempt_decides(platform: Platform, tmp_path: Path) -> None:
    text = f"""
scripts:
  flaky: |
    #!/bin/sh
    echo attempt $AIRAVATA_ATTEMPT
    [ "$AIRAVATA_ATTEMPT" -ge 3 ]
tasks: {{a: {{script: flaky, retry: {{max_attempts: 3, backoff_s: 0.1}}, description: "{tmp_path.name}"}}}}
"""
    found: dict[str, Any] = platform.run(text)
    task = platform.experiment("task", f"{found['id']}/a/0")
    assert [attempt["exit_code"] for attempt in task["attempts"]] == [1, 1, 0]
    first = platform.call("experiment", "logs", f"{found['id']}/a/0", "--attempt", "1").stdout
    assert first == "attempt 1\n"
