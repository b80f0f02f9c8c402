"""Many at once: users with experiments, clients that ask, listeners that wait for news.

    python -m benchmarks.crowd --json

| figure | is |
|---|---|
| `crowd_s` | 20 users submit 5 experiments of 60 tasks each at the same time: until the last of the 100 has ended |
| `crowd_ratio` | the time of one experiment with all those tasks, in the same run, over `crowd_s` |
| `crowd_submit_p99_ms` | a user's request to submit, while the others do the same |
| `crowd_start_p99_s` | from a submission to the start of its first task |
| `api_p50_ms`, `api_p99_ms` | reads of 50 clients that pause for a second between two requests |
| `api_full_p50_ms`, `api_full_p99_ms`, `api_full_per_s` | reads of 50 clients that never pause |
| `ws_last_ms` | from an event (its time in the database) until the last of 200 WebSockets has it: median of events |
| `ws_worst_ms` | the slowest of these events |

Reads are what people and watching clients send: half of them the state of an experiment, then tasks of one, the list of
experiments, failed tasks, one task, events, and who one is. All of it on two cores, the clients' own CPU included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from websockets.asyncio.client import ClientConnection, connect

from airavata_scheduler.client import Client
from airavata_scheduler.client.run import Run
from benchmarks.bare import TRUE
from benchmarks.live import LivePlatform, sweep, temporary_home
from benchmarks.requests import latencies, p50_p99_ms
from benchmarks.saying import say, show

USERS, EACH, TASKS = 20, 5, 60
CLIENTS, LISTENERS, EVENTS = 50, 200, 20
_MIX = ("", "/tasks?limit=50", "", "list", "", "/tasks?state=failed", "", "/tasks/t/0", "/events", "whoami")


def crowd(platform: LivePlatform) -> dict[str, float]:
    """100 experiments at once."""
    alone_s = platform.run([TRUE], USERS * EACH * TASKS)
    with platform.client() as admin:
        clients = [_user(admin, platform.home, number) for number in range(USERS)]
    taken: list[float] = []

    def submit(client: Client) -> list[Run]:
        runs = []
        for _ in range(EACH):
            began = time.perf_counter()
            runs.append(client.submit(sweep([TRUE], TASKS)))
            taken.append(time.perf_counter() - began)
        return runs

    began = time.monotonic()
    with ThreadPoolExecutor(USERS) as pool:
        runs = [run for found in pool.map(submit, clients) for run in found]
    submitted_s = time.monotonic() - began
    states = _until_ended(platform, {run.id for run in runs})
    crowd_s = max(_at(state["finished_at"]) for state in states) - min(_at(state["submitted_at"]) for state in states)
    for client in clients:
        client.close()
    starts = [_at(state["started_at"]) - _at(state["submitted_at"]) for state in states]
    say(f"100 experiments: {crowd_s:.2f} s ({submitted_s:.2f} s to submit), as one {alone_s:.2f} s")
    return {
        "crowd_s": crowd_s,
        "crowd_ratio": alone_s / crowd_s,
        "crowd_submit_p99_ms": p50_p99_ms(taken)[1],
        "crowd_start_p99_s": p50_p99_ms(starts)[1] / 1000,
    }


def reading(platform: LivePlatform, seconds: float) -> dict[str, float]:
    """Latency of reads."""
    with platform.client() as client:
        url, token = client.url, client.transport.access_token()
        ids = [row["id"] for row in client.experiments(limit=20)]

    def path(number: int) -> str:
        kind = _MIX[number % len(_MIX)]
        if kind == "whoami":
            return "/api/v1/auth/whoami"
        return "/api/v1/experiments" + ("?limit=50" if kind == "list" else f"/{ids[number % len(ids)]}{kind}")

    polite = asyncio.run(latencies(url, token, CLIENTS, seconds, 1.0, path))
    full = asyncio.run(latencies(url, token, CLIENTS, seconds, 0.0, path))
    names = ("api_p50_ms", "api_p99_ms", "api_full_p50_ms", "api_full_p99_ms")
    figures = dict(zip(names, (*p50_p99_ms(polite), *p50_p99_ms(full)), strict=True))
    return figures | {"api_full_per_s": len(full) / seconds}


def listening(platform: LivePlatform) -> dict[str, float]:
    """How long events take to everybody."""
    with platform.client() as client:
        token = client.transport.access_token()
        address = f"ws{client.url.removeprefix('http')}/api/v1/stream"
        delays = asyncio.run(_events(address, token, client))
    return {"ws_last_ms": statistics.median(delays) * 1000, "ws_worst_ms": max(delays) * 1000}


async def _events(address: str, token: str, client: Client) -> list[float]:
    """Seconds from each event to its last listener."""
    headers = {"Authorization": f"Bearer {token}"}
    sockets: list[ClientConnection] = []
    for _ in range(LISTENERS):
        socket = await connect(address, additional_headers=headers, proxy=None, open_timeout=30)
        await socket.send(json.dumps({"type": "subscribe", "all": True}))
        sockets.append(socket)
    arrived: dict[int, list[float]] = {}
    happened: dict[int, float] = {}

    async def listen(socket: ClientConnection) -> None:
        async for text in socket:
            now = time.time()
            message = json.loads(text)
            if message["type"] == "event":
                arrived.setdefault(message["seq"], []).append(now)
                happened[message["seq"]] = _at(message["at"])

    listening = [asyncio.create_task(listen(socket)) for socket in sockets]
    await asyncio.sleep(2.0)
    for _ in range(EVENTS):
        await asyncio.to_thread(client.submit, sweep([TRUE], 1, "news"), start=False)
        await asyncio.sleep(0.3)
    await asyncio.sleep(2.0)
    for task in listening:
        task.cancel()
    await asyncio.gather(*(socket.close() for socket in sockets))
    if not arrived or any(len(times) != LISTENERS for times in arrived.values()):
        message = f"not everybody got every event: {[len(times) for times in arrived.values()]} of {LISTENERS}"
        raise RuntimeError(message)
    return [max(times) - happened[seq] for seq, times in arrived.items()]


def _user(admin: Client, home: Path, number: int) -> Client:
    """A new user of the default project, logged in."""
    name, password = f"user-{number}", uuid4().hex
    admin.users.create(name, password)
    admin.projects.add_member("default", name, "editor")
    client = Client(url=admin.url, home=home / f"client-{number}", username=name, password=password)
    client.whoami()
    return client


def _until_ended(platform: LivePlatform, ids: set[str]) -> list[dict[str, Any]]:
    with platform.client() as client:
        while True:
            found = [row for row in client.experiments(limit=2 * len(ids)) if row["id"] in ids]
            if len(found) == len(ids) and all(row["finished_at"] for row in found):
                return found
            time.sleep(0.5)


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="clients read for 5 instead of 20 seconds")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    options = parser.parse_args()
    with temporary_home() as home, LivePlatform(home) as platform:
        platform.warm_up()
        figures = crowd(platform)
        figures |= reading(platform, 5.0 if options.quick else 20.0)
        figures |= listening(platform)
    show(figures, as_json=options.json)


if __name__ == "__main__":
    main()
