"""Figures for the Ray dashboard and whoever scrapes Ray: by resource and service, never by experiment."""

from __future__ import annotations

from ray.util.metrics import Gauge


class ExecutorGauges:
    """What one executor does."""

    def __init__(self, resource: str, host: str) -> None:
        tags = {"resource": resource, "host": host}
        self._running = _gauge("airavata_executor_running_tasks", "Tasks that run", tags)
        self._queued = _gauge("airavata_executor_queued_tasks", "Tasks claimed ahead", tags)

    def show(self, running: int, queued: int) -> None:
        """Publish the present numbers."""
        self._running.set(running)
        self._queued.set(queued)


class SchedulerGauges:
    """What the scheduler has before it."""

    def __init__(self) -> None:
        self._ready = _gauge("airavata_scheduler_ready_tasks", "Tasks that could start now", {})
        self._plan_s = _gauge("airavata_scheduler_plan_seconds", "Time the plan in force took to find", {})

    def show(self, ready: int, plan_s: float) -> None:
        """Publish the present numbers."""
        self._ready.set(ready)
        self._plan_s.set(plan_s)


def _gauge(name: str, description: str, tags: dict[str, str]) -> Gauge:
    gauge = Gauge(name, description=description, tag_keys=tuple(tags))
    gauge.set_default_tags(tags)
    return gauge
