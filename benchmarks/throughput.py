"""How many tasks a second, beside what the machine could do without us.

    python -m benchmarks.throughput --mode noop|process|sleep --tasks N --json

| mode | does | `ratio` |
|---|---|---|
| noop | real PostgreSQL and services, workers that report at once: our own cost alone | ms per task / 0.15 |
| process | N times /bin/true through a platform of its own | tasks_per_s / spawn_per_s |
| sleep | N times `sleep` | ideal time / measured time |

`spawn_per_s` is what small interpreters reach that do nothing but `posix_spawn` and `wait4`, measured in the same run,
in turns with the platform and the peers. `cpu_s` is the CPU time of our own processes for one run, PostgreSQL included,
Ray's own and the tasks' excluded. `rss_bytes_per_task` is by how much their anonymous memory grows while tasks are
pending. `files` are those that one run leaves below storage and scratch. Of several rounds the one with the median
ratio counts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from airavata_scheduler import bootstrap
from airavata_scheduler.adapters.persistence.migrate import migrate
from airavata_scheduler.launcher import processes
from airavata_scheduler.launcher.postgres import EmbeddedPostgres
from airavata_scheduler.launcher.ray_head import free_port
from airavata_scheduler.launcher.secrets import ensure_secrets
from airavata_scheduler.platform.domain.messages import Hello, Launch, Report
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.platform.interfaces import Submission
from airavata_scheduler.platform.services.identity import ensure_admin
from airavata_scheduler.settings import Settings
from benchmarks.worker import bare_rate

TRUE = "/bin/true"
NOOP_MS = 0.15  #: per task, what noop is compared with
CLAIM = 400
NOOP_WORKERS = 2
WARM_UP = 2000
PENDING = 100_000  #: at least so many tasks wait while memory is measured; fewer would drown in the noise
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Figures:
    """The contract's line, without the peers."""

    mode: str
    tasks: int
    tasks_per_s: float
    spawn_per_s: float | None
    ratio: float
    cpu_s: float
    rss_bytes_per_task: float
    files: int


# ------------------------------------------------------------------------------------------------ looking at processes


def cpu_s(pids: Iterable[int]) -> dict[int, float]:
    """Seconds of CPU that each of these has used itself, its children's excluded; those that ended are left out."""
    used = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used[pid] = (int(fields[11]) + int(fields[12])) / _TICKS
    return used


def used_since(before: dict[int, float], pids: Iterable[int]) -> float:
    """CPU seconds since ``before``; processes that are new since then count from their start."""
    return sum(now - before.get(pid, 0.0) for pid, now in cpu_s(pids).items())


def anonymous_bytes(pids: Iterable[int]) -> int:
    """Resident memory of these that no file and no shared buffer stands behind."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    total += 1024 * int(line.split()[1])
    return total


def count_files(*roots: Path) -> int:
    """Files below these directories."""
    return sum(len(files) for root in roots for _, _, files in os.walk(root))


@contextlib.contextmanager
def temporary_home() -> Iterator[Path]:
    """A short path, because sockets lie below it."""
    home = Path(tempfile.mkdtemp(prefix="airavata-bench-"))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


# --------------------------------------------------------------------------------------------------------------- noop


class NoopPlatform:
    """The services of the hot path in this process over a real database; no Ray, no actors, no tasks' processes."""

    def __init__(self, stores: bootstrap.Stores) -> None:
        self._stores = stores
        self.workers: list[int] = []
        self._loops: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Leases, services with their loops, and the workers."""
        stores = self._stores
        await ensure_admin(bootstrap.identity_store(stores), "admin", "throughput-of-nothing", time.time(), cost=4)
        await stores.workers.ensure_storage(bootstrap.default_storage(stores.settings))
        scheduling, orchestrating, living = [
            await stores.leases.take(name, "bench", 600.0) for name in ("scheduler", "orchestrator", "lifecycle")
        ]
        self.scheduler = bootstrap.task_scheduler(stores, scheduling, lambda _: None)
        self.lifecycle = bootstrap.worker_lifecycle(stores, living, lambda: None, lambda _: None)
        self.orchestrator = bootstrap.experiment_orchestrator(
            stores, orchestrating, bootstrap.data_mover(stores), self.scheduler.explain, lambda: None, _nobody
        )
        for number in range(NOOP_WORKERS):
            hello = Hello(f"noop-{number}", "local", "localhost", "node", os.getpid(), "0", Capacity(cpu=1))
            self.workers.append((await self.lifecycle.register(hello)).worker_id)
        loops = [self.scheduler.run(), self.lifecycle.run(), self.orchestrator.run(), *map(self._live, self.workers)]
        self._loops = [asyncio.create_task(loop) for loop in loops]

    async def stop(self) -> None:
        """End the loops, the solver's child and the connections."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self._stores.engine.dispose()

    async def submit(self, tasks: int) -> str:
        """The id of an experiment of so many tasks."""
        document = {"name": "noop", "tasks": {"t": {"command": [TRUE], "task_inputs": {"I": f"1..{tasks}"}}}}
        submitted = await self.orchestrator.submit("admin", Submission(document))
        return submitted.id

    async def work_off(self, experiment: str, tasks: int) -> None:
        """Claim and report until all tasks have ended. RuntimeError if they did not all succeed."""
        left = [tasks]
        done = asyncio.Event()
        await self.scheduler.wake()
        workers = [asyncio.create_task(self._work(worker, left, done)) for worker in self.workers]
        ending = asyncio.create_task(done.wait())
        ended, _ = await asyncio.wait([ending, *workers], return_when=asyncio.FIRST_COMPLETED)
        for task in (ending, *workers):
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        for task in ended:
            task.result()
        view = await self._stores.queries.experiment(experiment)
        if view.status != "SUCCEEDED" or view.counts.get("succeeded") != tasks:
            message = f"experiment {experiment} ended as {view.status} with {dict(view.counts)}"
            raise RuntimeError(message)

    async def _work(self, worker_id: int, left: list[int], done: asyncio.Event) -> None:
        """One worker: what it claims has succeeded before it is asked."""
        free = Capacity(cpu=float(CLAIM))
        while left[0] > 0:
            batch = await self.scheduler.claim(worker_id, free, CLAIM, 5.0)
            if batch.launches:
                stale = await self.scheduler.report(worker_id, [_succeeded(launch) for launch in batch.launches])
                left[0] -= len(batch.launches) - len(stale)
        done.set()

    async def _live(self, worker_id: int) -> None:
        while True:
            await self.lifecycle.heartbeat(worker_id, Capacity(cpu=0.0), 0, self._stores.settings.heartbeat_s)


async def _nobody(_: Sequence[int]) -> None:
    """No worker has to be told of what was canceled, because nothing is."""


def _succeeded(launch: Launch) -> Report:
    """As a worker reports a program that ran for two milliseconds and wrote nothing."""
    return Report(
        launch.step_id,
        launch.index,
        launch.attempt,
        TaskState.SUCCEEDED,
        exit_code=0,
        started_at=time.time(),
        wall_s=0.002,
        cpu_s=0.001,
        peak_memory_bytes=1_500_000,
    )


def noop(tasks: int) -> Figures:
    """Our own cost per task: claim, parameters, report, counts and events over a real PostgreSQL."""
    with temporary_home() as home:
        settings = Settings.load(home=home)
        settings.paths.create()
        ensure_secrets(settings.paths)
        postgres = EmbeddedPostgres(settings.paths)
        try:
            postgres.start()
            migrate(settings.sqlalchemy_url())
            return asyncio.run(_measure_noop(settings, tasks))
        finally:
            postgres.stop()


async def _measure_noop(settings: Settings, tasks: int) -> Figures:
    def ours() -> set[int]:
        return {os.getpid(), *processes.descendants(os.getpid())}

    platform = NoopPlatform(bootstrap.open_stores(settings))
    await platform.start()
    try:
        await platform.work_off(await platform.submit(WARM_UP), WARM_UP)
        memory = anonymous_bytes(ours())
        before, began = cpu_s(ours()), time.perf_counter()
        experiment = await platform.submit(tasks)
        submitted = time.perf_counter()
        grown = anonymous_bytes(ours()) - memory
        await platform.work_off(experiment, tasks)
        took_s, spent_s = time.perf_counter() - submitted, used_since(before, ours())
    finally:
        await platform.stop()
    per_task_ms = took_s / tasks * 1000
    say(f"submit {submitted - began:.3f} s; {per_task_ms:.4f} ms a task; CPU {spent_s / tasks * 1000:.4f} ms a task")
    files = count_files(settings.storage_dir, settings.scratch_dir)
    return Figures("noop", tasks, tasks / took_s, None, per_task_ms / NOOP_MS, spent_s, max(0.0, grown / tasks), files)


# --------------------------------------------------------------------------------------------------- process and sleep


class Platform:
    """A platform of its own, driven as a user would: through the `airavata` command."""

    def __init__(self, home: Path, slots: int) -> None:
        self.home = home
        self._slots = slots

    def airavata(self, *words: str) -> dict[str, Any]:
        """The last line of a command as JSON. RuntimeError with its output if it failed."""
        command = [sys.executable, "-m", "airavata_scheduler.cli.main", *words, "--home", str(self.home), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            message = f"`airavata {' '.join(words)}` ended with {done.returncode}: {done.stdout}{done.stderr}"
            raise RuntimeError(message)
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def __enter__(self) -> Self:
        try:
            self.airavata("up", "--http-port", str(free_port(exclude=set())), "--cpus", str(self._slots), "--detach")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.airavata("down")

    def document(self, name: str, command: Sequence[str], tasks: int) -> str:
        """The path of a document of one step."""
        path = self.home / f"{name}.json"
        step = {"command": list(command), "task_inputs": {"I": f"1..{tasks}"}}
        path.write_text(json.dumps({"name": name, "tasks": {"t": step}}))
        return str(path)

    def run(self, command: Sequence[str], tasks: int) -> float:
        """Seconds from submission to end, as the platform says. RuntimeError unless all succeeded."""
        end = self.airavata("experiment", "run", self.document("run", command, tasks), "--watch")
        if end["tasks"]["succeeded"] != tasks:
            message = f"not every task succeeded: {end}"
            raise RuntimeError(message)
        return float(end["wall_s"])

    def pids(self) -> set[int]:
        """Our own processes: without Ray's, without tasks; with PostgreSQL's and actors' children."""
        found = set()
        for process in self.airavata("status")["processes"]:
            if process["role"] != "ray":
                found.add(process["pid"])
            if process["role"] in ("postgres", "actor"):
                found |= set(processes.descendants(process["pid"]))
        return found

    def files(self) -> int:
        """Files below storage and scratch."""
        return count_files(self.home / "storage", self.home / "scratch")

    def memory_per_pending_task(self, tasks: int) -> float:
        """Bytes by which our processes grow for each of very many tasks that wait behind sleeping ones."""
        before = anonymous_bytes(self.pids())
        document = self.document("pending", ["sleep", "3600"], tasks)
        experiment = self.airavata("experiment", "run", document)["id"]
        while not self.airavata("experiment", "status", experiment)["tasks"]["running"]:
            time.sleep(0.2)
        grown = anonymous_bytes(self.pids()) - before
        self.airavata("experiment", "cancel", experiment)
        return max(0.0, grown / tasks)


def through_platform(options: argparse.Namespace) -> tuple[Figures, dict[str, Any]]:
    """Modes process and sleep, with the figures of the peers."""
    mode, tasks, slots = options.mode, options.tasks, options.slots
    command = [TRUE] if mode == "process" else ["sleep", str(options.duration_s)]
    rounds: list[Figures] = []
    absent = missing(options.peers)
    peer_s: dict[str, list[float]] = {name: [] for name in options.peers if name not in absent}
    with temporary_home() as home, Platform(home, slots) as platform:
        platform.run([TRUE], min(tasks, 200))
        memory = platform.memory_per_pending_task(max(tasks, PENDING))
        for number in range(options.rounds):
            spawn_per_s = bare_rate(tasks, slots, TRUE)
            files, before = platform.files(), cpu_s(platform.pids())
            took_s = platform.run(command, tasks)
            spent_s, made = used_since(before, platform.pids()), max(0, platform.files() - files)
            rate = tasks / took_s
            ratio = rate / spawn_per_s if mode == "process" else tasks * options.duration_s / slots / took_s
            rounds.append(Figures(mode, tasks, rate, spawn_per_s, ratio, spent_s, memory, made))
            say(f"round {number + 1}: {rate:.0f} tasks/s, bare {spawn_per_s:.0f}/s, ratio {ratio:.3f}")
            for name, seconds in peer_s.items():
                seconds.append(PEERS[name](command, tasks, slots))
                say(f"  {name}: {tasks / seconds[-1]:.0f} tasks/s")
    chosen = sorted(rounds, key=lambda figures: figures.ratio)[len(rounds) // 2]
    peers: dict[str, Any] = dict.fromkeys(absent, "not installed")
    for name, seconds in peer_s.items():
        rate = tasks / statistics.median(seconds)
        peers[name] = {"tasks_per_s": round(rate, 1), "ours_to_theirs": round(chosen.tasks_per_s / rate, 3)}
    return chosen, peers


# -------------------------------------------------------------------------------------------------------------- peers
# Each runs ``tasks`` times ``command`` on ``slots`` slots and tells the seconds it took, without its own start and end.


def call(command: Sequence[str]) -> int:
    """What a task of a Python peer does."""
    return subprocess.run(command, capture_output=True, check=True).returncode


def xargs(command: Sequence[str], tasks: int, slots: int) -> float:
    """`xargs -P`: no durability, no output kept, no scheduling."""
    lines = "".join(f"{number}\n" for number in range(tasks))
    began = time.perf_counter()
    subprocess.run(["xargs", f"-P{slots}", "-I{}", *command], input=lines, text=True, check=True)
    return time.perf_counter() - began


def with_ray(command: Sequence[str], tasks: int, slots: int) -> float:
    """One Ray task for each."""
    ray = importlib.import_module("ray")
    ray.init(address="local", num_cpus=slots, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        remote = ray.remote(num_cpus=1, max_retries=0)(call)
        ray.get([remote.remote(command) for _ in range(2 * slots)])
        began = time.perf_counter()
        ray.get([remote.remote(command) for _ in range(tasks)])
        return time.perf_counter() - began
    finally:
        ray.shutdown()


def with_dask(command: Sequence[str], tasks: int, slots: int) -> float:
    """One future of a local cluster for each."""
    distributed = importlib.import_module("distributed")
    with (
        distributed.LocalCluster(n_workers=slots, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.gather([client.submit(call, command, pure=False) for _ in range(2 * slots)])
        began = time.perf_counter()
        client.gather([client.submit(call, command, pure=False) for _ in range(tasks)])
        return time.perf_counter() - began


def with_parsl(command: Sequence[str], tasks: int, slots: int) -> float:
    """One app call of the high-throughput executor for each."""
    parsl = importlib.import_module("parsl")
    executor = importlib.import_module("parsl.executors").HighThroughputExecutor(
        label="bench", max_workers_per_node=slots
    )
    with temporary_home() as directory:
        parsl.load(parsl.config.Config(executors=[executor], run_dir=str(directory)))
        try:
            app = parsl.python_app(call)
            [future.result() for future in [app(command) for _ in range(2 * slots)]]
            began = time.perf_counter()
            [future.result() for future in [app(command) for _ in range(tasks)]]
            return time.perf_counter() - began
        finally:
            parsl.dfk().cleanup()
            parsl.clear()


def with_hyperqueue(command: Sequence[str], tasks: int, slots: int) -> float:
    """One job with a program for each, through the package's own local cluster."""
    hyperqueue = importlib.import_module("hyperqueue")
    worker = importlib.import_module("hyperqueue.cluster").WorkerConfig(cores=slots)
    with hyperqueue.LocalCluster() as cluster:
        cluster.start_worker(worker)
        client = cluster.client()
        job = hyperqueue.Job()
        for _ in range(tasks):
            job.program(list(command))
        began = time.perf_counter()
        client.wait_for_jobs([client.submit(job)])
        return time.perf_counter() - began


PEERS: dict[str, Callable[[Sequence[str], int, int], float]] = {
    "xargs": xargs,
    "ray": with_ray,
    "dask": with_dask,
    "parsl": with_parsl,
    "hyperqueue": with_hyperqueue,
}
_MODULES = {"ray": "ray", "dask": "distributed", "parsl": "parsl", "hyperqueue": "hyperqueue"}


def missing(names: Iterable[str]) -> list[str]:
    """The peers among these that this machine does not have."""
    return [
        name
        for name in names
        if (importlib.util.find_spec(_MODULES[name]) is None if name in _MODULES else shutil.which(name) is None)
    ]


# ---------------------------------------------------------------------------------------------------------------- main


def say(text: str) -> None:
    """For people; programs read standard output."""
    print(text, file=sys.stderr, flush=True)


def _peers(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        message = f"unknown: {', '.join(unknown)}; choose from {', '.join(PEERS)}"
        raise argparse.ArgumentTypeError(message)
    return names


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=("noop", "process", "sleep"), required=True)
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--slots", type=int, default=2, help="tasks at one time (process, sleep)")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions, in turns (process, sleep)")
    parser.add_argument("--duration-s", type=float, default=0.01, help="of one task (sleep)")
    parser.add_argument("--peers", type=_peers, default=[], help=f"of {','.join(PEERS)} (process, sleep)")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    options = parser.parse_args()
    if options.mode == "noop" and options.peers:
        parser.error("peers start processes: use them with --mode process or --mode sleep")
    peers: dict[str, Any] = {}
    if options.mode == "noop":
        figures = noop(options.tasks)
    else:
        figures, peers = through_platform(options)
    line = {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(figures).items()}
    line |= {"peers": peers} if peers else {}
    print(json.dumps(line) if options.json else "\n".join(f"{key:20} {value}" for key, value in line.items()))


if __name__ == "__main__":
    main()
