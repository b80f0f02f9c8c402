"""A program made ready to be started many times by one spawner: argv, environment, limits, found once."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from typing import Any

from airavata_scheduler.worker.environment import program_environment

_HINTS = {
    errno.ENOENT: "does not exist on this worker; install it or give its full path",
    errno.EACCES: "may not be executed; check its permissions (chmod +x)",
    errno.ENOEXEC: "is neither a binary nor a script; give its first line an interpreter such as #!/bin/sh",
    errno.EAGAIN: "finds no room for another process; the task is tried again",
    errno.ENOMEM: "finds no memory for another process; the task is tried again",
    errno.E2BIG: "got more arguments and environment than the kernel takes; pass large values through files",
}


class Recipe:
    """One program. ``wire`` is the dictionary of `wire.program_to_wire`."""

    def __init__(self, wire: Mapping[str, Any], base: Mapping[str, str], gpus_on_worker: bool, directory: str) -> None:
        self.wire = wire
        self.environment = program_environment(wire, base, gpus_on_worker)
        self.outputs: Mapping[str, str] = wire["outputs"]
        self.results: Mapping[str, tuple[str, str]] = wire["results"]
        self.timeout_s: float | None = wire["timeout_s"]
        self.grace_s: float = wire["grace_s"]
        self.cap_bytes: int = wire["max_output_bytes"]
        self.memory_bytes: int = wire["memory_bytes"]
        self.cpu: float = wire["cpu"]
        self.python: str = wire["python"]
        self.limited = self.memory_bytes > 0 or self.cpu % 1 > 0
        self.collects = bool(self.outputs or self.results)
        self.plain = not (self.limited or self.collects or self.python)
        self.parents = sorted({os.path.dirname(path) for path in self.outputs.values()} - {""})
        self.argv: list[str] = wire["command"]
        self.script = os.path.join(directory, f"program-{wire['step_id']}") if wire["script"] else ""
        self._written = False
        self._checked: set[str] = set()
        if self.script:
            self.argv = [self.script] if wire["script"].startswith("#!") else ["/bin/sh", self.script]
        self._found = find_program(self.argv[0], self.environment["PATH"]) if self.argv else ""

    def prepare(self, directory: str) -> None:
        """Write the script, once, and make the directories of outputs. After an OSError it may be tried again."""
        if self.script and not self._written:
            flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC
            with open(os.open(self.script, flags, 0o700), "w", encoding="utf-8") as file:
                file.write(self.wire["script"])
            self._written = True
        for parent in self.parents:
            os.makedirs(os.path.join(directory, parent), exist_ok=True)

    def forget(self) -> None:
        """Remove what was written for it."""
        if self._written:
            os.unlink(self.script)

    def executable(self, environment: Mapping[str, str]) -> str:
        """The file to execute; a task may bring its own PATH as a parameter."""
        if environment["PATH"] == self.environment["PATH"]:
            return self._found
        return find_program(self.argv[0], environment["PATH"])

    def check(self, executable: str) -> None:
        """Raise the OSError that executing would give; a wrapper would hide it in an exit code."""
        if executable in self._checked:
            return
        if not os.access(executable, os.X_OK):
            raise OSError(errno.EACCES if os.path.exists(executable) else errno.ENOENT, executable)
        with open(executable, "rb") as file:
            head = file.read(256)
        if head.startswith(b"#!"):
            os.stat(head[2:].split(b"\n")[0].split()[0])
        elif not head.startswith(b"\x7fELF"):
            raise OSError(errno.ENOEXEC, executable)
        self._checked.add(executable)

    def explain(self, error: OSError, environment: Mapping[str, str]) -> str:
        """Why the program could not be started, for people."""
        hint = _HINTS.get(error.errno or 0, f"could not be started: {error.strerror}")
        if self.script:
            first = str(self.wire["script"]).partition("\n")[0]
            return f"the interpreter of the script ({first or '/bin/sh'}) {hint}"
        searched = "" if "/" in self.argv[0] else f" (looked for in PATH={environment['PATH']})"
        return f"command {self.argv[0]!r}{searched} {hint}"


def find_program(name: str, path: str) -> str:
    """The first executable file of that name on ``path``, else the name itself, which then fails with its reason."""
    if "/" in name:
        return name
    for directory in path.split(":"):
        candidate = os.path.join(directory or ".", name)
        try:
            mode = os.stat(candidate).st_mode
        except OSError:
            continue
        if stat.S_ISREG(mode) and os.access(candidate, os.X_OK):
            return candidate
    return name
