"""The commands that make the figures, and the file in which the last ones are kept."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.bare import bare_rate
from benchmarks.catalogue import read
from benchmarks.proc import Disturbance

FIGURES = Path(__file__).with_name("figures.json")
_THROUGHPUT = "benchmarks.throughput --mode"


@dataclass(frozen=True, slots=True)
class Section:
    """``command`` after `python -m`; ``quick`` is its shorter form, None to leave it out then."""

    name: str
    command: str
    quick: str | None = None


SECTIONS: tuple[Section, ...] = (
    Section("noop_10k", f"{_THROUGHPUT} noop --tasks 10000", f"{_THROUGHPUT} noop --tasks 10000"),
    Section("noop_100k", f"{_THROUGHPUT} noop --tasks 100000"),
    Section(
        "process",
        f"{_THROUGHPUT} process --tasks 3000 --peers all",
        f"{_THROUGHPUT} process --tasks 3000 --rounds 1 --peers xargs,ray",
    ),
    Section("process_100k", f"{_THROUGHPUT} process --tasks 100000 --rounds 1"),
    Section("efficiency", "benchmarks.efficiency", "benchmarks.efficiency --quick"),
    Section("response", "benchmarks.response", "benchmarks.response --quick"),
    Section("crowd", "benchmarks.crowd", "benchmarks.crowd --quick"),
    Section("million", "benchmarks.million"),
    Section("profile", "benchmarks.profile --tasks 20000"),
)


class SectionError(RuntimeError):
    """A section's command failed; what it said was on standard error."""


def run_section(section: Section, *, quick: bool) -> dict[str, Any]:
    """Runs its command. The figures, the line they came from, and how fast and how busy the machine was."""
    command = section.quick if quick else section.command
    assert command is not None
    disturbance = Disturbance()
    spawn = statistics.median(bare_rate(2000, 2) for _ in range(3))
    done = subprocess.run(
        [sys.executable, "-m", *command.split(), "--json"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        cwd=FIGURES.parents[1],
    )
    if done.returncode != 0:
        message = f"`python -m {command}` ended with {done.returncode}"
        raise SectionError(message)
    line = json.loads(done.stdout.splitlines()[-1])
    return {
        "command": f"python -m {command} --json",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "spawn_per_s": round(line.get("spawn_per_s") or spawn, 1),
        "machine": disturbance.seen(),
        "figures": read(section.name, line),
        "line": line,
    }


def kept() -> dict[str, Any]:
    """What the repository knows: `{"machine": {...}, "sections": {name: as of run_section}}`."""
    if not FIGURES.exists():
        return {"machine": {}, "sections": {}}
    known: dict[str, Any] = json.loads(FIGURES.read_text())
    return known


def keep(sections: dict[str, Any]) -> None:
    """These replace the ones of the same name."""
    known = kept()
    known["machine"] = machine()
    known["sections"] |= sections
    FIGURES.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def machine() -> dict[str, Any]:
    """What figures depend on."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": model,
        "memory_gb": round(memory / 2**30),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _commit() -> str:
    """Of the code that was measured, with `+` if more than the figures was changed since."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=False, cwd=FIGURES.parents[1])
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", ":!benchmarks/figures.json", ":!docs")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
