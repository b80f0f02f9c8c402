"""Whether the process of a token has ended."""

from __future__ import annotations

import subprocess
import sys

from airavata_scheduler.adapters.process_token import has_ended, own_token


def test_a_process_has_ended_when_it_is_a_zombie_and_not_before() -> None:
    code = "from airavata_scheduler.adapters.process_token import own_token; print(own_token(), flush=True); input()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        token = child.stdout.readline().strip()
        assert not has_ended(token)
        child.kill()
        child.wait()
    assert has_ended(token)


def test_nobody_can_tell_of_other_places_and_pids_are_used_again() -> None:
    token = own_token()
    place, pid, started = token.split("/")
    assert not has_ended(token)
    assert has_ended(f"{place}/{pid}/{int(started) - 1}")
    assert not has_ended(f"elsewhere/{pid}/1")
    assert not has_ended("nonsense")
