"""The database is away for longer than a lease while tasks run: nothing is lost, and nothing runs twice."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psycopg
import pytest

from airavata_scheduler.launcher import processes

if TYPE_CHECKING:
    from conftest import Platform

#: The first tasks outlive the lease of their worker, 20 s, and end while the database is away or soon after.
_DOCUMENT = """
name: "{name}"
parameters: {{LEDGER: {{type: path, default: "{ledger}"}}}}
scripts:
  work: |
    #!/bin/sh
    echo "$I" >> "$LEDGER"
    [ "$I" -gt 2 ] || sleep {seconds}
    echo "$I" > "$OUT"
  merge: |
    #!/bin/sh
    xargs cat < "$PARTS" > "$ALL"
tasks:
  work: {{script: work, task_inputs: {{I: 1..{n}}}, task_outputs: {{OUT: out.txt}}}}
  merge: {{script: merge, gather: [work], task_inputs: {{PARTS: "${{work.OUT}}"}}, task_outputs: {{ALL: all.txt}}}}
"""
_N = 40

Wait = Callable[..., None]


def _servers(platform: Platform) -> list[int]:
    """Every process of the database."""
    postmaster = platform.pids()["postgres"]
    return [postmaster, *processes.descendants(postmaster)]


@contextmanager
def _frozen(platform: Platform) -> Iterator[None]:
    """It holds its connections and says nothing."""
    stopped = _servers(platform)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def _killed(platform: Platform) -> Iterator[None]:
    """It is gone, and nobody starts it again for a while."""
    servers, supervisor = _servers(platform), platform.pids()["supervisor"]
    os.kill(supervisor, signal.SIGSTOP)
    try:
        for pid in servers:
            os.kill(pid, signal.SIGKILL)
        yield
    finally:
        os.kill(supervisor, signal.SIGCONT)


def _services(platform: Platform) -> dict[str, int]:
    platform.pid_of("/spawner-1")  # the last that is listed of a platform which has just been started
    return {name: pid for name, pid in platform.pids().items() if name.startswith(("svc.", "exec.", "keeper"))}


@pytest.mark.parametrize(
    ("away", "away_s", "task_s"), [(_frozen, 65, 40), (_killed, 25, 30)], ids=["frozen-for-a-minute", "killed"]
)
def test_tasks_outlive_an_outage_of_the_database(
    platform: Platform, tmp_path: Path, wait_until: Wait, away: Callable[..., Iterator[None]], away_s: int, task_s: int
) -> None:
    ledger = tmp_path / "ledger"
    experiment = platform.submit(_DOCUMENT.format(name=away.__name__, ledger=ledger, seconds=task_s, n=_N))
    wait_until(lambda: platform.counts(experiment)["running"] == 2, 60)
    before = _services(platform)
    command = [platform.exe, "experiment", "watch", experiment, "--home", str(platform.home)]
    # Logged in beforehand: while it is away nobody's token can be looked up.
    with (
        platform.api() as api,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=platform.environment()
        ) as watching,
    ):
        try:
            with away(platform):
                until = time.monotonic() + away_s
                answer = api.get(f"/experiments/{experiment}")
                health = httpx.get(f"{platform.url}/health", timeout=30)
                wait_until(lambda: time.monotonic() > until, away_s + 30)
            assert (answer.status_code, health.status_code) == (503, 503), (answer.text, health.text)
            assert int(answer.headers["Retry-After"]) >= 1
            end = platform.watch(experiment)
            said = watching.communicate(timeout=60)[0]
        finally:
            watching.kill()
    assert (end["status"], end["tasks"]["succeeded"]) == ("SUCCEEDED", _N + 1)
    assert watching.returncode == 0, said
    assert "the database does not answer" in said or "connection lost" in said
    assert sorted(map(int, ledger.read_text().split())) == list(range(1, _N + 1)), "each task ran once"
    assert {row["attempt"] for row in platform.experiment("results", experiment)["items"]} == {1}
    assert _services(platform) == before, "nothing but the database was started again"
    platform.heal()


def test_a_loop_that_fails_at_every_look_is_a_problem(platform: Platform, wait_until: Wait) -> None:
    """A process that answers and does not do its work must not look healthy."""
    before = _services(platform)
    experiment = platform.submit("tasks: {a: {command: [sleep, '1'], task_inputs: {I: 1..8}}}")
    with psycopg.connect((platform.home / "secrets/database_url").read_text().strip(), autocommit=True) as database:
        database.execute("ALTER TABLE resources RENAME COLUMN speed TO swiftness")
        try:
            wait_until(lambda: _says(platform, "svc.task-scheduler has failed"), 60)
            assert not platform.status()["healthy"]
        finally:
            database.execute("ALTER TABLE resources RENAME COLUMN swiftness TO speed")
    platform.heal()
    assert platform.watch(experiment)["status"] == "SUCCEEDED"
    assert _services(platform) == before, "nothing was started again"


def _says(platform: Platform, words: str) -> bool:
    return any(words in problem for problem in platform.status()["problems"])
