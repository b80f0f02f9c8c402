"""When the keeper asks an actor whether it is there, and what it makes of the answer; Ray itself is not started."""

from __future__ import annotations

import os
from typing import Any

import pytest

from airavata_scheduler.actors.watched import Watched


class Actor:
    """A handle whose pings are answered when ``answers`` is true; a ping is its number."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers = True
        self.pid = os.getpid()
        self.ping = self

    def remote(self) -> int:
        self.asked += 1
        return self.asked


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> Actor:
    made = Actor()

    def wait(refs: list[int], timeout: float) -> tuple[list[int], list[int]]:
        assert timeout == 0
        return (refs, []) if made.answers else ([], refs)

    monkeypatch.setattr("ray.wait", wait)
    monkeypatch.setattr("ray.get", lambda _: {"pid": made.pid})
    return made


def looked(watched: Watched, *times_s: float) -> None:
    for now_s in times_s:
        assert watched.look(now_s)


def test_who_answered_is_left_in_peace_for_a_while(actor: Actor) -> None:
    watched = Watched("svc.x", "actor", actor)
    looked(watched, 0.0, 1.0)
    assert watched.healthy
    looked(watched, 2.0, 3.0)
    assert actor.asked == 1
    looked(watched, 4.0)
    assert actor.asked == 2


def test_a_process_that_is_gone_is_asked_about_at_once(actor: Actor) -> None:
    actor.pid = 2**22 + 1  # above any pid there can be
    watched = Watched("svc.x", "actor", actor)
    looked(watched, 0.0, 1.0, 2.0)
    assert actor.asked == 2


def test_a_process_of_another_node_cannot_be_seen_to_be_gone(actor: Actor) -> None:
    actor.pid = 2**22 + 1
    watched = Watched("exec.x", "executor", actor, local=False)
    looked(watched, 0.0, 1.0, 2.0, 3.0)
    assert actor.asked == 1


def test_who_does_not_answer_is_ended_and_asked_anew(actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[Any] = []
    monkeypatch.setattr("os.kill", lambda pid, _: killed.append(pid))
    watched = Watched("svc.x", "actor", actor)
    looked(watched, 0.0, 1.0)
    actor.answers = False
    looked(watched, 4.0, 9.5)
    assert not watched.healthy
    assert not killed
    looked(watched, 14.5)
    assert killed == [os.getpid()]
    actor.answers = True
    looked(watched, 15.5, 16.5)
    assert watched.healthy
