"""Work that is started again after each failure: how long to wait, and whether it gets going at all."""

from __future__ import annotations

from airavata_scheduler.platform.domain.errors import AiravataError

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 5.0
#: What fails at all fails at its first look; who works for so long has had a good one.
_SETTLED_S = 3.0
#: One failure happens to everyone whose database is restarted.
_WORTH_SAYING = 2


class Attempts:
    """Failures in a row; times in seconds of any clock that does not jump."""

    def __init__(self) -> None:
        self._failures = 0
        self._error = ""
        self._started_s: float | None = None  #: None between a failure and the next start

    def started(self, now_s: float) -> None:
        """The work begins, for the first time or anew."""
        self._started_s = now_s

    def failed(self, error: Exception, now_s: float) -> float:
        """The work has ended with an error; seconds until it should begin anew."""
        self._failures = 1 if self._is_settled(now_s) else self._failures + 1
        self._started_s = None
        # Whatever an error of somebody else's says may be what nobody should read.
        self._error = error.message if isinstance(error, AiravataError) else type(error).__name__
        return min(_FIRST_DELAY_S * 2.0 ** (self._failures - 1), _LONGEST_DELAY_S)

    def problem(self, now_s: float) -> str | None:
        """What keeps the work from getting going, if anything does."""
        if self._failures < _WORTH_SAYING or self._is_settled(now_s):
            return None
        return f"has failed {self._failures} times in a row, the last time with: {self._error} (more in its log)"

    def _is_settled(self, now_s: float) -> bool:
        return self._started_s is not None and now_s - self._started_s >= _SETTLED_S
