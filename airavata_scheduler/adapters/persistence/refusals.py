"""Reports that the database refuses for what is in them: none may fail for ever, or stop the others of its batch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import psycopg
import structlog
from sqlalchemy.exc import DBAPIError

from airavata_scheduler.platform.domain.failures import Cause
from airavata_scheduler.platform.domain.messages import Report
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.platform.ports.repository import ReportOutcome

_LOG = structlog.get_logger(__name__)
#: Data that a type does not hold, and statements beyond a limit of the server.
_REFUSED_CLASSES = ("22", "54")

Record = Callable[[Sequence[Report]], Awaitable[ReportOutcome]]


async def record_each(record: Record, reports: Sequence[Report]) -> ReportOutcome:
    """Record a batch as one; if it is refused, one by one, and who is to blame as a failure that says so."""
    try:
        return await record(reports)
    except (DBAPIError, psycopg.Error, ValueError, OverflowError, RecursionError) as error:
        if not _is_refusal(error):
            raise
        if len(reports) == 1:
            _LOG.warning("a report is refused", step=reports[0].step_id, index=reports[0].index, error=_reason(error))
            return await record([_refused(reports[0], _reason(error))])
    return _joined([await record_each(record, [report]) for report in reports])


def _is_refusal(error: Exception) -> bool:
    state = getattr(getattr(error, "orig", error), "sqlstate", None) or ""
    return state.startswith(_REFUSED_CLASSES) or not isinstance(error, DBAPIError | psycopg.Error)


def _reason(error: Exception) -> str:
    """The server's own line without its details, which would repeat what it was given."""
    diagnostics = getattr(getattr(error, "orig", error), "diag", None)
    return str(getattr(diagnostics, "message_primary", None) or type(error).__name__)[:200]


def _refused(report: Report, reason: str) -> Report:
    message = f"what this attempt reported could not be stored ({reason}); look at its results and its exit code"
    return Report(
        report.step_id, report.index, report.attempt, TaskState.FAILED,
        cause=Cause.STAGING, message=message, started_at=report.started_at,
    )  # fmt: skip


def _joined(outcomes: Sequence[ReportOutcome]) -> ReportOutcome:
    return ReportOutcome(
        [key for outcome in outcomes for key in outcome.stale],
        sum(outcome.released for outcome in outcomes),
        [step_id for outcome in outcomes for step_id in outcome.manifests_due],
        [experiment for outcome in outcomes for experiment in outcome.finished],
    )
