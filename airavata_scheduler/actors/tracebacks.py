"""Tracebacks in the logs of actors are plain.

Those that structlog makes where rich is installed show the values of variables, secrets among them, and take so long
that a busy actor answers nobody meanwhile.
"""

from __future__ import annotations

import structlog


def plain_tracebacks() -> None:
    """To be called once in each process, before it logs."""
    *processors, _ = structlog.get_config()["processors"]
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*processors, renderer])
