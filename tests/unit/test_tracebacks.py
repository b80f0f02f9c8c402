"""A logged error shows where it came from, and not what the variables there held."""

from __future__ import annotations

import pytest
import structlog

from airavata_scheduler.actors.tracebacks import plain_tracebacks


def test_the_values_of_variables_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(secret: str) -> None:
        raise ValueError(f"{len(secret)} characters")

    before = structlog.get_config()["processors"]
    try:
        plain_tracebacks()
        try:
            fail(f"correct-{chr(104)}orse")
        except ValueError:
            structlog.get_logger("test").exception("it failed")
    finally:
        structlog.configure(processors=before)
    said = capsys.readouterr().out
    assert "13 characters" in said
    assert "in fail" in said
    assert "correct-horse" not in said
