"""What runs, and whether it works: from files, `/proc` and one request to the API; without Ray or a driver."""

from __future__ import annotations

import http.client
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airavata_scheduler import __version__
from airavata_scheduler.launcher import processes
from airavata_scheduler.launcher.processes import ProcessId
from airavata_scheduler.launcher.ray_head import dashboard_modules, recorded_core
from airavata_scheduler.settings import Paths, Settings, SettingsError

HEALTH_PATH = "/api/v1/health"
_FRESH_S = 10.0
_HTTP_LIMIT_S = 2.0


def status(home: Path | str) -> dict[str, Any]:
    """State of the platform of one home.

    `{"healthy", "version", "home", "url", "processes": [{"name", "role", "pid"}], "workers": [...], "problems":
    [str]}`; only live processes are listed, those of other nodes with their `node_id`. Never raises: what cannot be
    read is a problem in the answer.
    """
    paths = Paths(Path(home).expanduser().resolve())
    state = processes.read_json(paths.processes)
    cluster = processes.read_json(paths.cluster)
    own = {str(entry.get("name")): entry for entry in state.get("processes", [])}
    listed = [
        _entry(name, str(entry.get("role"))) | {"pid": entry.get("pid")} for name, entry in own.items() if _lives(entry)
    ]
    core = recorded_core(processes.read_json(paths.ray_state))
    listed += [_entry(name, "ray") | {"pid": pid} for name, pid in dashboard_modules(core)]
    problems = _launcher_problems(state, own)
    known = {entry["name"] for entry in listed}
    for entry in cluster.get("processes", []):
        if entry.get("name") in known:
            continue
        if "node_id" in entry:
            # Of another machine: only the keeper can tell whether it lives, and does so in its problems.
            listed.append({key: entry.get(key) for key in ("name", "role", "pid", "node_id")})
        elif processes.identify(int(entry.get("pid") or 0)) is None:
            problems.append(f"{entry.get('name')} (pid {entry.get('pid')}) is not alive")
        else:
            listed.append(_entry(str(entry.get("name")), str(entry.get("role"))) | {"pid": entry["pid"]})
    problems += _cluster_problems(cluster)
    url = _url(paths, state)
    if not problems:
        problems += _api_problems(url)
    return {
        "healthy": not problems,
        "version": state.get("version", __version__),
        "home": str(paths.home),
        "url": url,
        "processes": listed,
        "workers": cluster.get("workers", []) if "keeper" in known else [],
        "problems": problems,
    }


def _entry(name: str, role: str) -> dict[str, Any]:
    return {"name": name, "role": role}


def _lives(entry: dict[str, Any]) -> bool:
    process = ProcessId.from_json(entry)
    return process is not None and process.alive()


def _launcher_problems(state: dict[str, Any], own: dict[str, dict[str, Any]]) -> list[str]:
    """Of the supervisor and what it looks after."""
    if not state:
        return ["the platform is not running: start it with `airavata up`"]
    expected = ["supervisor", "keeper"]
    expected += ["postgres"] if state.get("own_postgres") else []
    expected += ["ray.gcs_server", "ray.raylet"] if state.get("own_ray") else []
    problems = [f"{name} is not running" for name in expected if name not in own]
    problems += [f"{name} (pid {entry.get('pid')}) is not alive" for name, entry in own.items() if not _lives(entry)]
    if "supervisor" in own and not _lives(own["supervisor"]):
        problems.append("nothing restarts what dies: run `airavata up`, which adopts what still runs")
    return problems + [str(text) for text in state.get("problems", {}).values()]


def _cluster_problems(cluster: dict[str, Any]) -> list[str]:
    """Of the actors, executors and API, as the keeper reports them (its file is removed whenever a keeper starts)."""
    if not cluster:
        return ["the keeper has not reported yet"]
    age_s = abs(time.time() - float(cluster.get("at") or 0))
    if age_s > _FRESH_S:
        return [f"the keeper's last report is {age_s:.0f} s old"]
    problems = [str(text) for text in cluster.get("problems", [])]
    if not cluster.get("healthy") and not problems:
        problems.append(f"the cluster is starting: {cluster.get('stage', 'unknown stage')}")
    return problems


def _api_problems(url: str) -> list[str]:
    parts = urlsplit(url)
    try:
        connection = _connection(parts.scheme, parts.hostname or "", parts.port)
        try:
            connection.request("GET", HEALTH_PATH)
            code = connection.getresponse().status
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        return [f"{url}{HEALTH_PATH} does not answer: {str(error) or type(error).__name__}"]
    return [] if code == http.HTTPStatus.OK else [f"{url}{HEALTH_PATH} answers {code}"]


def _connection(scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
    if scheme == "https":
        # Our own certificate on our own machine, which may well be signed by nobody; nothing secret is sent or
        # believed.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(host, port, timeout=_HTTP_LIMIT_S, context=context)
    return http.client.HTTPConnection(host, port, timeout=_HTTP_LIMIT_S)


def _url(paths: Paths, state: dict[str, Any]) -> str:
    if state.get("url"):
        return str(state["url"])
    try:
        return (Settings.from_run(paths.home) if paths.run_settings.exists() else Settings.load(home=paths.home)).url
    except SettingsError:
        return ""
