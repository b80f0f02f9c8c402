"""Control groups, versions 1 and 2, where they may be written: one group for each slot, used again and again.

Those are only touched for programs that ask for memory or for a fraction of a CPU. Each spawner is in a group of its
own that bounds the number of processes and threads, so that a program that forks without end finds one.
"""

from __future__ import annotations

import os

#: controller -> directory of ours, the version, and the bound of processes; as handed to spawners.
Base = dict[str, str]
#: Processes and threads of all tasks of one spawner.
MOST_PIDS = 4096
_PERIOD_US = 100_000
#: What the names of a worker's groups, and within them of its spawners' groups, begin with.
PREFIX = "airavata-"
SPAWNER = "spawner-"
MOUNTS = "/proc/self/mounts"
_CONTROLLERS = ("memory", "cpu", "pids")


def find_base(worker: str, own: str = "/proc/self/cgroup", mounts: str = MOUNTS) -> Base:
    """Make groups for a worker of this name below our own where that is allowed; empty if it is not."""
    name = PREFIX + worker
    base = _version_1(name, own, mounts) or _version_2(name, own, mounts)
    if "pids" in base:
        base["most_pids"] = str(MOST_PIDS)
    return base


def bound_processes(base: Base, spawner: str) -> None:
    """Put this process, and with it all that it starts, into a group that holds so many at most."""
    path = _child(base.get("pids"), SPAWNER + spawner)
    if path:
        _write(path, "pids.max", base["most_pids"])
        _write(path, "cgroup.procs", "0")


def remove_base(base: Base) -> None:
    """Remove our groups; those with processes stay until the next start."""
    for path in {path for kind, path in base.items() if kind not in {"version", "most_pids"}}:
        remove(path)


def mount_points(mounts: str = MOUNTS) -> set[str]:
    """Where the hierarchies are that groups of ours may be in, both versions."""
    points = {_mount_point(mounts, "cgroup", controller) for controller in _CONTROLLERS}
    return {*points, _mount_point(mounts, "cgroup2", "")} - {""}


def remove(group: str) -> None:
    """Remove a group and those below it, as far as no process is in them."""
    for name in children(group):
        rmdir(os.path.join(group, name))
    rmdir(group)


def children(group: str) -> list[str]:
    """Names of what is in the directory of a group; none if it is gone."""
    try:
        return os.listdir(group)
    except OSError:
        return []


def rmdir(group: str) -> bool:
    """Remove one group; False if it is in use, or no group at all."""
    try:
        os.rmdir(group)
    except OSError:
        return False
    return True


class SlotGroup:
    """The group of one slot."""

    def __init__(self, base: Base, slot: str) -> None:
        self._version = base["version"]
        self._memory = _child(base.get("memory"), slot)
        self._cpu = _child(base.get("cpu"), slot)
        if self._version == "2" and "pids" in base:  # where a process has one group only
            _write(_child(base["pids"], slot) or "", "pids.max", base["most_pids"])
        self._oom_kills = 0
        self.limits_memory = self._memory is not None

    def prepare(self, memory_bytes: int, cpu: float) -> None:
        """Set the limits for the next task: 0 bytes and whole CPUs mean none."""
        if self._memory:
            limit = str(memory_bytes) if memory_bytes else ("-1" if self._version == "1" else "max")
            _write(self._memory, "memory.limit_in_bytes" if self._version == "1" else "memory.max", limit)
            if self._version == "1":
                _write(self._memory, "memory.max_usage_in_bytes", "0")
            self._oom_kills = self._count_oom_kills()
        if self._cpu:
            quota = int(cpu * _PERIOD_US) if cpu % 1 else 0
            if self._version == "1":
                _write(self._cpu, "cpu.cfs_quota_us", str(quota or -1))
            else:
                _write(self._cpu, "cpu.max", f"{quota or 'max'} {_PERIOD_US}")

    def enter(self, pid: int) -> None:
        for path in {self._memory, self._cpu} - {None}:
            _write(path or "", "cgroup.procs", str(pid))

    def out_of_memory(self) -> bool:
        """Whether the kernel killed something of the last task for want of memory."""
        return self._count_oom_kills() > self._oom_kills

    def peak_bytes(self) -> int:
        """The most memory that the last task used; 0 where that cannot be told apart."""
        return _read_int(self._memory, "memory.max_usage_in_bytes") if self._version == "1" else 0

    def _count_oom_kills(self) -> int:
        name = "memory.oom_control" if self._version == "1" else "memory.events"
        for line in _read(self._memory, name).splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
        return 0


def _version_1(name: str, own: str, mounts: str) -> Base:
    base: Base = {}
    for line in _read_file(own).splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in sorted({*_CONTROLLERS} & set(controllers.split(","))):
            mount = _mount_point(mounts, "cgroup", controller)
            if mount and (made := _make(mount, path, name, "cgroup.procs")):
                base[controller] = made
    if base:
        base["version"] = "1"
    return base


def _version_2(name: str, own: str, mounts: str) -> Base:
    mount = _mount_point(mounts, "cgroup2", "")
    path = next((line[3:] for line in _read_file(own).splitlines() if line.startswith("0::")), None)
    if not mount or path is None:
        return {}
    made = _make(mount, path, name, "cgroup.procs")
    if not made:
        return {}
    for group in (os.path.dirname(made), made):  # refused where processes are in the group: then there is no limit
        for controller in ("+memory", "+cpu", "+pids"):
            _write(group, "cgroup.subtree_control", controller)
    offered = _read(made, "cgroup.subtree_control").split()
    base: Base = {controller: made for controller in _CONTROLLERS if controller in offered}
    if not base:
        rmdir(made)
        return {}
    base["version"] = "2"
    return base


def _mount_point(mounts: str, kind: str, controller: str) -> str:
    for line in _read_file(mounts).splitlines():
        _, point, found, options = line.split()[:4]
        if found == kind and (not controller or controller in options.split(",")):
            return point
    return ""


def _make(mount: str, path: str, name: str, probe: str) -> str:
    parent = os.path.normpath(mount + path)
    made = os.path.join(parent if os.path.isdir(parent) else mount, name)
    try:
        os.makedirs(made, exist_ok=True)
    except OSError:
        return ""
    return made if os.access(os.path.join(made, probe), os.W_OK) else ""


def _child(base: str | None, slot: str) -> str | None:
    if base is None:
        return None
    path = os.path.join(base, slot)
    try:
        os.makedirs(path, exist_ok=True)
    except OSError:
        return None
    return path


def _write(directory: str, name: str, value: str) -> None:
    try:
        fd = os.open(os.path.join(directory, name), os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(fd, value.encode())
    except OSError:  # the process is gone already, or the limit is below what is in use: the task goes on without
        return
    finally:
        os.close(fd)


def _read(directory: str | None, name: str) -> str:
    return _read_file(os.path.join(directory, name)) if directory else ""


def _read_int(directory: str | None, name: str) -> int:
    text = _read(directory, name).strip()
    return int(text) if text.isdigit() else 0


def _read_file(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
