"""Why an attempt failed, and what a retry policy makes of it. Standard library only (workers import it)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    """The class of a failure, decided once, where it was seen."""

    EXIT_CODE = "exit_code"  #: The program ended with a code other than 0 or by a signal of its own making.
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    MISSING_OUTPUT = "missing_output"  #: The program ended well, but a declared output is not there.
    STAGING = "staging"  #: An input could not be brought, or an output not be stored.
    ENVIRONMENT = "environment"  #: The program or module does not exist, or may not be executed.
    WORKER_LOST = "worker_lost"
    PREEMPTED = "preempted"
    INFRASTRUCTURE = "infrastructure"  #: A fault of the platform or the machine: disk full, spawner died.
    CANCELED = "canceled"  #: Ended on request; never retried.


#: Not the user's fault: do not use up the user's attempts, but have a cap of their own.
INFRASTRUCTURE_CAUSES = frozenset({Cause.WORKER_LOST, Cause.PREEMPTED, Cause.INFRASTRUCTURE})
MAX_INFRASTRUCTURE_FAILURES = 20


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, after what and how late a task is tried again.

    ``max_attempts`` counts the user's attempts (1: never again). The delay before attempt k + 1 is
    ``backoff_s * factor ** (k - 1)``, at most ``max_backoff_s``.
    """

    max_attempts: int = 1
    on: tuple[Cause, ...] = (Cause.EXIT_CODE, Cause.TIMEOUT, Cause.OUT_OF_MEMORY, Cause.MISSING_OUTPUT, Cause.STAGING)
    backoff_s: float = 1.0
    factor: float = 2.0
    max_backoff_s: float = 300.0

    def delay_s(self, cause: Cause, user_failures: int, infrastructure_failures: int) -> float | None:
        """Seconds until the next attempt, or None if the task failed for good. Counts include this failure."""
        if cause is Cause.CANCELED:
            return None
        if cause in INFRASTRUCTURE_CAUSES:
            if infrastructure_failures >= MAX_INFRASTRUCTURE_FAILURES:
                return None
            return min(0.1 * 2.0 ** (infrastructure_failures - 1), 30.0)
        if cause not in self.on or user_failures >= self.max_attempts:
            return None
        return min(self.backoff_s * self.factor ** (user_failures - 1), self.max_backoff_s)
