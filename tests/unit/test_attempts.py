"""What is started again and again says so, and what got going is forgiven."""

from __future__ import annotations

import pytest

from airavata_scheduler.actors.attempts import Attempts
from airavata_scheduler.platform.domain.errors import UnavailableError


def fail(attempts: Attempts, at_s: float, error: Exception) -> float:
    attempts.started(at_s)
    return attempts.failed(error, at_s + 0.01)


def test_failures_in_a_row_are_a_problem_whose_delay_grows_to_a_limit() -> None:
    attempts = Attempts()
    delays = [fail(attempts, at, UnavailableError("the database does not answer")) for at in range(10)]
    assert delays[:3] == pytest.approx([0.1, 0.2, 0.4])
    assert delays[-1] == 5.0
    problem = attempts.problem(100.0)
    assert problem is not None, "between two starts there is no telling that it works"
    assert "10 times in a row" in problem
    assert "the database does not answer" in problem


def test_one_failure_is_no_problem_and_a_good_look_ends_one() -> None:
    attempts = Attempts()
    fail(attempts, 0.0, ValueError("x"))
    assert attempts.problem(1.0) is None
    fail(attempts, 1.0, ValueError("x"))
    attempts.started(2.0)
    assert attempts.problem(2.5) is not None, "it has only just begun"
    assert attempts.problem(6.0) is None
    assert attempts.failed(ValueError("x"), 60.0) == pytest.approx(0.1), (
        "what worked in between starts from the first delay"
    )


def test_the_words_of_a_foreign_error_are_not_shown() -> None:
    attempts = Attempts()
    for at in range(3):
        fail(attempts, at, ValueError("password=hunter2"))
    problem = attempts.problem(3.0)
    assert problem is not None
    assert "hunter2" not in problem
    assert "ValueError" in problem
