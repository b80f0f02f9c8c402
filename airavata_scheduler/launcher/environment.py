"""The environment of every process that the launcher starts."""

from __future__ import annotations

import os
import site
from pathlib import Path

from airavata_scheduler.launcher.processes import MARK_VARIABLE
from airavata_scheduler.settings import Settings

# A node that stops answering is given up after about 10 s instead of 60; logs are rotated; Ray asks nobody and tells
# nobody. What it counts about itself, in each of our processes, it counts less often: on an idle platform that was most
# of what happened. Serve calls our code, which does not block, in its own event loop, instead of handing each request
# from thread to thread, and its proxy calls by gRPC (with Ray's token), which costs less than calls of actors. Serve
# replaces a proxy that has failed three looks in a row, dead or not, and looks every ten seconds unless told otherwise;
# its proxy shares the port with the supervisor, which keeps it.
_RAY = {
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_initial_delay_ms": "3000",
    "RAY_health_check_period_ms": "2000",
    "RAY_health_check_timeout_ms": "4000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_ROTATION_MAX_BYTES": "20000000",
    "RAY_ROTATION_BACKUP_COUNT": "2",
    "RAY_DEDUP_LOGS": "1",
    "RAY_event_stats": "0",
    "RAY_task_events_report_interval_ms": "5000",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "5000",
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "5",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "100",
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    "SERVE_SOCKET_REUSE_PORT_ENABLED": "1",
}
# Without compiled files each of a dozen Python processes would compile Ray again: a start of 30 s instead of 8.
_DROPPED = frozenset({"PYTHONDONTWRITEBYTECODE", "PYTHONSTARTUP", "PYTHONINSPECT", "RAY_ADDRESS", "DATABASE_URL"})


def child_environment(settings: Settings, ray_address: str | None = None) -> dict[str, str]:
    """Our environment, the mark and path of this home, and what Ray needs; without what would mislead a child."""
    paths = settings.paths
    kept = {key: value for key, value in os.environ.items() if key not in _DROPPED}
    own = {MARK_VARIABLE: paths.mark, "AIRAVATA_HOME": str(paths.home), "RAY_AUTH_TOKEN_PATH": str(paths.ray_token)}
    source = _source_root()
    if source is not None:
        own["PYTHONPATH"] = os.pathsep.join(filter(None, (str(source), kept.get("PYTHONPATH"))))
    if ray_address is not None:
        own["RAY_ADDRESS"] = ray_address
    return {**kept, **_RAY, **own}


def _source_root() -> Path | None:
    """Where the package is when it runs from a source tree, because children start in another directory."""
    root = Path(__file__).resolve().parents[2]
    return None if str(root) in {*site.getsitepackages(), site.getusersitepackages()} else root
