"""Runs peers in processes of their own, and makes the environment that they need."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

PEERS = ("xargs", "ray", "parsl", "dask", "hyperqueue")
ROOT = Path(__file__).resolve().parents[2]
_OURS = ("xargs", "ray")  #: need nothing that our own environment lacks
_LIMIT_S = 240.0


class PeerError(RuntimeError):
    """A peer cannot be installed or did not work; the message is the end of what it said."""


def run_peer(name: str, command: Sequence[str], tasks: int, slots: int) -> float:
    """Seconds that a peer took. PeerError when it could not be had or failed."""
    python = sys.executable if name in _OURS else peers_python()
    argv = [python, "-m", "benchmarks.peers", name, str(tasks), str(slots), *command]
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("AIRAVATA", "RAY_"))}
    environment = {**clean, "PYTHONPATH": str(ROOT), "PATH": f"{Path(python).parent}:{os.environ.get('PATH', '')}"}
    try:
        done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise PeerError(f"did not end within {_LIMIT_S:.0f} s") from None
    if done.returncode != 0:
        raise PeerError(_end(done.stderr or done.stdout) or f"ended with {done.returncode}")
    return float(done.stdout.splitlines()[-1])


@cache
def peers_python() -> str:
    """The interpreter of `.venv-peers`, which is made when it is not there or older than its lock file. PeerError."""
    venv, lock = ROOT / ".venv-peers", ROOT / "requirements" / "peers.txt"
    stamp, python = venv / ".stamp", str(venv / "bin" / "python")
    if stamp.exists() and stamp.stat().st_mtime >= lock.stat().st_mtime:
        return python
    steps = [
        [sys.executable, "-m", "venv", "--clear", str(venv)],
        [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--require-hashes", "-r", str(lock)],
    ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PeerError(f"cannot be installed: {_end(done.stderr)}")
    stamp.touch()
    return python


def _end(text: str) -> str:
    return " ".join(text.strip().splitlines()[-3:])[-300:]
