"""The read side over PostgreSQL: `SqlQueries` is the whole port, its parts are in the `queries_*` files."""

from __future__ import annotations

from airavata_scheduler.adapters.persistence.queries_experiments import ExperimentQueries
from airavata_scheduler.adapters.persistence.queries_platform import PlatformQueries
from airavata_scheduler.adapters.persistence.queries_results import ResultQueries


class SqlQueries(ExperimentQueries, ResultQueries, PlatformQueries):
    """Queries over an engine of `create_engine`; safe for concurrent use within one event loop."""
