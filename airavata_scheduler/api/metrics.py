"""Prometheus metrics: the platform's from live state at each scrape, the API's own as they happen."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from airavata_scheduler.platform.ports.queries import LiveTotals

CONTENT_TYPE = CONTENT_TYPE_LATEST
_COMPLETED = ("SUCCEEDED", "PARTIAL")
_HELD = ("assigned", "staging", "running", "collecting")
_ENDED = ("lost", "gone")


def request_durations(registry: CollectorRegistry) -> Histogram:
    """Durations of requests by method, path template and status."""
    return Histogram(
        "airavata_api_request_duration_seconds",
        "Duration of requests until the end of their answer",
        ("method", "path", "status"),
        registry=registry,
        buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
    )


class _Live(Collector):
    """The totals of one moment as metric families."""

    def __init__(self, totals: LiveTotals) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        """All families."""
        yield from self._experiments()
        yield from self._tasks()
        yield from self._workers()

    def _experiments(self) -> Iterator[Metric]:
        found, (n, sum_s) = self._totals.experiments, self._totals.duration_s
        created, completed = sum(found.values()), sum(found.get(status, 0) for status in _COMPLETED)
        yield CounterMetricFamily("airavata_experiments_created", "Experiments there are", created)
        yield CounterMetricFamily("airavata_experiments_completed", "Experiments that finished with results", completed)
        yield CounterMetricFamily("airavata_experiments_failed", "Experiments that failed", found.get("FAILED", 0))
        yield SummaryMetricFamily("airavata_experiment_duration_seconds", "From submission to end", n, sum_s)
        active = GaugeMetricFamily(
            "airavata_active_experiments", "Experiments that are not finished", labels=["status"]
        )
        for status in ("DRAFT", "RUNNING", "PAUSED"):
            active.add_metric([status.lower()], found.get(status, 0))
        yield active

    def _tasks(self) -> Iterator[Metric]:
        ended, open_tasks = self._totals.finished_tasks, self._totals.tasks
        created = sum(ended.values()) + sum(n for state, n in open_tasks.items() if state not in ended)
        yield CounterMetricFamily("airavata_tasks_created", "Tasks there are", created)
        yield CounterMetricFamily("airavata_tasks_completed", "Tasks that succeeded", ended.get("succeeded", 0))
        yield CounterMetricFamily("airavata_tasks_failed", "Tasks that failed for good", ended.get("failed", 0))
        held = sum(open_tasks.get(state, 0) for state in _HELD)
        yield GaugeMetricFamily("airavata_active_tasks", "Tasks that workers hold", held)
        yield GaugeMetricFamily(
            "airavata_queue_length", "Tasks that are ready and wait for a worker", open_tasks.get("ready", 0)
        )
        states = GaugeMetricFamily("airavata_tasks", "Tasks of open experiments", labels=["state"])
        for state, number in open_tasks.items():
            states.add_metric([state], number)
        yield states

    def _workers(self) -> Iterator[Metric]:
        found = self._totals.workers
        yield CounterMetricFamily("airavata_workers_spawned", "Workers that registered", sum(found.values()))
        ended = sum(found.get(state, 0) for state in _ENDED)
        yield CounterMetricFamily("airavata_workers_terminated", "Workers that left or were lost", ended)
        live = GaugeMetricFamily("airavata_active_workers", "Workers that live", labels=["state"])
        for state in ("live", "draining"):
            live.add_metric([state], found.get(state, 0))
        yield live
        ratio = GaugeMetricFamily(
            "airavata_worker_utilization_ratio", "Tasks held for each cpu of live workers", labels=["resource"]
        )
        for resource, (cpus, held) in self._totals.resources.items():
            ratio.add_metric([resource], held / cpus if cpus else 0.0)
        yield ratio


def exposition(registry: CollectorRegistry, totals: LiveTotals) -> bytes:
    """The text of a scrape."""
    live = CollectorRegistry()
    live.register(_Live(totals))
    return generate_latest(live) + generate_latest(registry)
