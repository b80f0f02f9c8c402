"""The main job: a document goes in, outputs and a results table come out."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pyarrow import parquet

if TYPE_CHECKING:
    from conftest import Platform

_N = 12
_DAG = f"""
name: three steps
parameters: {{BROKEN: 0}}
scripts:
  square: |
    #!/bin/sh
    echo "out of $I"
    echo "err of $I" >&2
    [ "$I" != "$BROKEN" ] || exit 3
    printf '{{"square": %d}}' $((I * I)) > "$OUT"
  digits: |
    #!/bin/sh
    tr -dc 0-9 < "$ONE" > "$DIGITS"
  total: |
    #!/bin/sh
    for file in $(cat "$ALL"); do cat "$file"; echo; done | awk '{{ s += $1 }} END {{ print s }}' > "$TOTAL"
tasks:
  square:
    script: square
    task_inputs: {{I: 1..{_N}}}
    task_outputs: {{OUT: deep/out.json}}
    results: {{square: OUT#/square}}
    retry: {{max_attempts: 1}}
  digits:
    script: digits
    foreach: [square]
    task_inputs: {{ONE: "${{square.OUT}}"}}
    task_outputs: {{DIGITS: d.txt}}
  total:
    script: total
    gather: [digits]
    task_inputs: {{ALL: "${{digits.DIGITS}}"}}
    task_outputs: {{TOTAL: total.txt}}
    results: {{total: TOTAL}}
"""
_TOTAL = sum(i * i for i in range(1, _N + 1))


@pytest.fixture(scope="module")
def done(_started: Platform) -> dict[str, Any]:
    """The experiment that succeeded, as `run --watch --json` tells it."""
    return _started.run(_DAG)


@pytest.fixture(scope="module")
def partial(_started: Platform) -> dict[str, Any]:
    """The same with one task that fails."""
    return _started.run(_DAG, "--param", "BROKEN=7", code=7)


def test_last_line_counts_every_task(done: dict[str, Any]) -> None:
    n = 2 * _N + 1
    assert done["status"] == "SUCCEEDED"
    assert done["tasks"] == {"total": n, "succeeded": n, "failed": 0, "canceled": 0, "skipped": 0}
    assert done["wall_s"] > 0


def test_status_and_list_agree(platform: Platform, done: dict[str, Any]) -> None:
    state = platform.experiment("status", done["id"])
    assert [(step["name"], step["n"], step["tasks"]["succeeded"]) for step in state["steps"]] == [
        ("square", _N, _N),
        ("digits", _N, _N),
        ("total", 1, 1),
    ]
    listed = platform.experiment("list", "--status", "succeeded")["items"]
    assert done["id"] in [row["id"] for row in listed]
    assert platform.experiment("list", "--name", "no such name") == {"items": []}


def test_download_has_every_output_once(platform: Platform, done: dict[str, Any], tmp_path: Path) -> None:
    told = platform.experiment("download", done["id"], "--output", str(tmp_path))
    files = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*") if path.is_file()}
    expected = {f"square/{i}/deep/out.json" for i in range(_N)} | {f"digits/{i}/d.txt" for i in range(_N)}
    assert set(files) == expected | {"total/0/total.txt"}
    assert told["files"] == len(files)
    assert json.loads(files["square/4/deep/out.json"].read_text()) == {"square": 25}
    assert files["total/0/total.txt"].read_text() == f"{_TOTAL}\n"


def test_outputs_have_size_and_hash(platform: Platform, done: dict[str, Any]) -> None:
    (row,) = platform.experiment("outputs", done["id"], "--step", "total")["items"]
    content = f"{_TOTAL}\n".encode()
    assert (row["name"], row["size_bytes"], row["sha256"]) == (
        "TOTAL",
        len(content),
        hashlib.sha256(content).hexdigest(),
    )


def test_results_as_json_csv_parquet_and_table(platform: Platform, done: dict[str, Any], tmp_path: Path) -> None:
    found = platform.experiment("results", done["id"])
    assert {"step", "index", "I", "square", "total", "state", "wall_s", "cpu_s", "cost"} <= set(found["columns"])
    squares = [(row["I"], row["square"]) for row in found["items"] if row["step"] == "square"]
    assert squares == [(i, i * i) for i in range(1, _N + 1)]
    assert [row["total"] for row in found["items"] if row["step"] == "total"] == [_TOTAL]

    target = tmp_path / "results.parquet"
    assert platform.experiment("results", done["id"], "--output", str(target))["format"] == "parquet"
    table = parquet.read_table(target)
    assert table.column_names == found["columns"]
    assert table.num_rows == 2 * _N + 1
    assert sorted(value for value in table["square"].to_pylist() if value is not None) == [s for _, s in squares]

    rows = list(
        csv.DictReader(io.StringIO(platform.call("experiment", "results", done["id"], "--format", "csv").stdout))
    )
    assert [row["square"] for row in rows[:3]] == ["1", "4", "9"]
    shown = platform.call("experiment", "results", done["id"]).stdout
    assert str(_N * _N) in shown
    assert "\x1b" not in shown


def test_logs_of_both_streams(platform: Platform, done: dict[str, Any]) -> None:
    logs = ("experiment", "logs", f"{done['id']}/square/3")
    assert platform.call(*logs).stdout == "out of 4\n"
    assert platform.call(*logs, "--stderr").stdout == "err of 4\n"
    assert platform.json(*logs)["text"] == "out of 4\n"


def test_failure_is_named_counted_and_skips_what_needs_it(platform: Platform, partial: dict[str, Any]) -> None:
    assert partial["status"] == "PARTIAL"
    assert partial["tasks"] == {"total": 2 * _N + 1, "succeeded": 2 * _N - 2, "failed": 1, "canceled": 0, "skipped": 2}
    (failed,) = platform.experiment("tasks", partial["id"], "--state", "failed")["items"]
    assert (failed["step"], failed["index"], failed["parameters"]["I"]) == ("square", 6, 7)
    assert failed["cause"] == "exit_code"
    skipped = platform.experiment("tasks", partial["id"], "--state", "SKIPPED")["items"]
    assert {(row["step"], row["index"]) for row in skipped} == {("digits", 6), ("total", 0)}
    (attempt,) = platform.experiment("task", f"{partial['id']}/square/6")["attempts"]
    assert attempt["exit_code"] == 3
    assert platform.call("experiment", "logs", partial["id"], "square", "6").stdout == "out of 7\n"


def test_explain_at_every_level(platform: Platform, done: dict[str, Any], partial: dict[str, Any]) -> None:
    assert platform.experiment("explain", done["id"])["state"] == "SUCCEEDED"
    assert platform.experiment("explain", partial["id"])["state"] == "PARTIAL"
    assert platform.experiment("explain", partial["id"], "square")["subject"] == f"{partial['id']}/square"
    task = platform.experiment("explain", f"{partial['id']}/square/6")
    assert task["state"] == "FAILED"
    assert "exit code 3" in " ".join([task["summary"], *task["reasons"]])


def test_dry_run_stores_nothing(platform: Platform) -> None:
    before = platform.experiment("list")["items"]
    found = platform.experiment("run", platform.document(_DAG), "--dry-run")
    assert found["n_tasks"] == 2 * _N + 1
    assert platform.experiment("list")["items"] == before


def test_missing_output_is_a_failure_that_says_so(platform: Platform) -> None:
    text = "tasks: {a: {command: ['true'], task_outputs: {OUT: none.txt}, retry: {max_attempts: 1}}}"
    found = platform.run(text, code=7)
    assert found["status"] == "FAILED"
    row = platform.experiment("task", f"{found['id']}/a/0")
    assert row["cause"] == "missing_output"
    assert "none.txt" in row["message"]


def test_gpus_named_resources_and_disk_are_shared_out(platform: Platform, tmp_path: Path) -> None:
    text = f"""
environment: {{LOCK: {tmp_path}/lock}}
tasks:
  one:
    command: [sh, -c, 'mkdir "$LOCK" && sleep 0.1 && rmdir "$LOCK"']
    task_inputs: {{I: 1..6}}
    resources: {{cpu: 0.25, named: {{e2e-license: 1}}, disk_gb: 0.001}}
    retry: {{max_attempts: 1}}
  gpu:
    command: [sh, -c, 'echo "[$CUDA_VISIBLE_DEVICES]"']
    task_inputs: {{I: 1..3}}
    resources: {{cpu: 0.25, gpu: 2}}
    results: {{gpus: stdout}}
  half:
    command: [sh, -c, 'echo "[$CUDA_VISIBLE_DEVICES]"']
    resources: {{gpu: 0.5}}
    results: {{gpus: stdout}}
"""
    done = platform.run(text)
    assert done["tasks"]["succeeded"] == 10
    rows = platform.experiment("results", done["id"])["items"]
    assert [json.loads(row["gpus"]) for row in rows if row["step"] == "gpu"] == [[0, 1]] * 3
    assert [json.loads(row["gpus"]) for row in rows if row["step"] == "half"] in ([[0]], [[1]])


@pytest.mark.parametrize(
    ("resources", "path", "words"),
    [
        (
            "named: {e2e-license: 2}",
            "tasks.a.resources.named.e2e-license",
            "2 e2e-license (a named resource), local has 1",
        ),
        ("disk_gb: 1000000", "tasks.a.resources.disk_gb", "1000000 GB of disk, local has"),
        ("gpu: 3", "tasks.a.resources.gpu", "3 gpu, local has 2 gpu"),
        ("memory: 90TB", "tasks.a.resources.memory", "90000 GB of memory, local has"),
    ],
)
def test_what_fits_nowhere_is_refused(platform: Platform, resources: str, path: str, words: str) -> None:
    before = platform.experiment("list")["items"]
    document = platform.document(f"tasks: {{a: {{command: ['true'], resources: {{{resources}}}}}}}")
    (problem,) = platform.experiment("run", document, code=6)["error"]["problems"]
    assert problem["path"] == path
    assert words in problem["message"]
    assert problem["remedy"]
    assert platform.experiment("list")["items"] == before


def test_logs_are_followed_while_the_task_runs(platform: Platform, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"echo first; until [ -e {go} ]; do sleep 0.05; done; echo last"
    experiment = platform.submit(f"tasks: {{a: {{command: [sh, -c, '{script}']}}}}")
    command = [platform.exe, "experiment", "logs", experiment, "a", "0", "--follow", "--home", str(platform.home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=platform.environment()) as following:
        assert following.stdout is not None
        # The task waits for us: what can be read now was sent while it runs.
        assert following.stdout.readline() == "first\n"
        assert platform.counts(experiment)["succeeded"] == 0
        go.touch()
        assert following.stdout.read() == "last\n"
    assert following.returncode == 0
    assert platform.watch(experiment)["status"] == "SUCCEEDED"


def test_up_again_changes_nothing_and_says_so(platform: Platform) -> None:
    before = platform.pids()
    said = platform.call("up", "--cpus", "1").stdout
    assert "was running already" in said
    assert "For another --cpus: first `airavata down" in said
    assert platform.pids() == before
    assert platform.up()["already_running"]


def test_100_000_tasks_are_stored_listed_run_and_canceled(
    platform: Platform, wait_until: Any, done: dict[str, Any]
) -> None:
    n = 100_000
    text = f"name: many\ntasks: {{a: {{command: ['true'], task_inputs: {{I: 1..{n}}}, results: {{}}}}}}"
    experiment = platform.submit(text)
    assert platform.counts(experiment)["total"] == n
    assert next(row for row in platform.experiment("list")["items"] if row["id"] == experiment)["tasks"]["total"] == n
    rows = platform.experiment("tasks", experiment, "--limit", "150")["items"]
    assert [row["parameters"] for row in rows] == [{"I": i} for i in range(1, 151)]
    last = platform.experiment("task", experiment, "a", str(n - 1))
    assert last["parameters"] == {"I": n}
    wait_until(lambda: platform.counts(experiment)["succeeded"] >= 200, 60)
    assert platform.experiment("cancel", experiment)["status"] == "CANCELED"
    end = platform.watch(experiment, code=7)
    counts = end["tasks"]
    assert end["status"] == "CANCELED"
    assert counts["succeeded"] + counts["canceled"] + counts["failed"] == n == counts["total"]
    assert counts["failed"] == 0
    wait_until(lambda: not platform.tasks_alive(experiment), 15)
    assert platform.counts(experiment)["succeeded"] == counts["succeeded"]
