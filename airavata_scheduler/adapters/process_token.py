"""A name for a process that no other ever gets, and whether the process of such a name has ended for certain."""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def own_token() -> str:
    """Boot, PID namespace, pid and start time of this process."""
    pid = os.getpid()
    return f"{_place()}/{pid}/{_started(pid)}"


def has_ended(token: str) -> bool:
    """True only for a process of this boot and PID namespace; of others nobody here can tell, so False."""
    place, _, process = token.partition("/")
    pid, _, started = process.partition("/")
    if place != _place() or not pid.isdigit():
        return False
    return _started(int(pid)) != started


def _place() -> str:
    boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}.{(_PROC / 'self/ns/pid').stat().st_ino}"


def _started(pid: int) -> str:
    """Ticks since the boot; empty if there is no such process, or only what is left of it until its parent looks."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in {"Z", "X"} else fields[19]
