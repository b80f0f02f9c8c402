"""Control groups, versions 1 and 2, where they may be written: one group for each slot, used again and again.

Those are only touched for programs that ask for memory or for a fraction of a CPU. Each spawner is in a group of its
own that bounds the number of processes and threads, so that a program that forks without end finds one.
"""

from __future__ import annotations

import os
import time

#: controller -> directory of ours, the version, and the bound of processes; as handed to spawners.
Base = dict[str, str]
#: Processes and threads of all tasks of one spawner.
MOST_PIDS = 4096
_PERIOD_US = 100_000
_PREFIX = "airavata-"
_SPAWNER = "spawner-"
#: Younger groups may belong to a worker that has not started its spawners yet.
_SETTLED_S = 60.0


def find_base(worker: str, own: str = "/proc/self/cgroup", mounts: str = "/proc/self/mounts") -> Base:
    """Make groups for a worker of this name below our own where that is allowed; empty if it is not."""
    name = _PREFIX + worker
    base = _version_1(name, own, mounts) or _version_2(name, own, mounts)
    if "pids" in base:
        base["most_pids"] = str(MOST_PIDS)
    return base


def bound_processes(base: Base, spawner: str) -> None:
    """Put this process, and with it all that it starts, into a group that holds so many at most."""
    path = _child(base.get("pids"), _SPAWNER + spawner)
    if path:
        _write(path, "pids.max", base["most_pids"])
        _write(path, "cgroup.procs", "0")


def remove_base(base: Base) -> None:
    """Remove our groups; those with processes stay until the next start."""
    for path in _directories(base):
        _remove(path)


def remove_abandoned(base: Base) -> None:
    """Remove the groups of workers that were killed, which could not do it themselves.

    A worker lives as long as one of its spawners, and the kernel refuses to remove a group that holds one.
    """
    directories = _directories(base)
    if "pids" not in base:
        return
    pids = base["pids"]
    siblings = [name for name in _list(os.path.dirname(pids)) if name.startswith(_PREFIX)]
    for name in siblings:
        group = os.path.join(os.path.dirname(pids), name)
        if group == pids or time.time() - _changed_at(group) < _SETTLED_S:
            continue
        spawners = [child for child in _list(group) if child.startswith(_SPAWNER)]
        if all(_rmdir(os.path.join(group, child)) for child in spawners):
            for path in directories:
                _remove(os.path.join(os.path.dirname(path), name))


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
        for controller in sorted({"memory", "cpu", "pids"} & set(controllers.split(","))):
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
    base: Base = {controller: made for controller in ("memory", "cpu", "pids") if controller in offered}
    if not base:
        _rmdir(made)
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


def _directories(base: Base) -> set[str]:
    return {path for kind, path in base.items() if kind not in {"version", "most_pids"}}


def _remove(group: str) -> None:
    for child in _list(group):
        _rmdir(os.path.join(group, child))
    _rmdir(group)


def _list(group: str) -> list[str]:
    try:
        return os.listdir(group)
    except OSError:
        return []


def _changed_at(group: str) -> float:
    try:
        return os.stat(group).st_mtime
    except OSError:
        return time.time()


def _rmdir(path: str) -> bool:
    try:
        os.rmdir(path)
    except OSError:  # a file of the kernel's, or a group still in use
        return False
    return True


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
