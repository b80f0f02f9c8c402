"""What the machine does without us: small interpreters that do nothing but `posix_spawn` and `wait4`.

`bare_s` is the yardstick of everything else. It is taken in the same run as what it is compared with, in turns.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

TRUE = "/bin/true"
_LOOP = """
import os, sys, time
n, command = int(sys.argv[1]), sys.argv[2:]
started = time.monotonic()
for _ in range(n):
    os.wait4(os.posix_spawn(command[0], command, {}), 0)
print(time.monotonic() - started)
"""


def bare_s(command: Sequence[str], tasks: int, slots: int) -> float:
    """Seconds for so many processes of ``command`` (its first word a path), ``slots`` at a time.

    The interpreters' own start is left out. Each takes its share, and the slowest counts, as with anybody's tasks.
    """
    shares = [tasks // slots + (number < tasks % slots) for number in range(slots)]
    argv = [sys.executable, "-I", "-S", "-c", _LOOP]
    started = [
        subprocess.Popen([*argv, str(share), *command], stdout=subprocess.PIPE, text=True) for share in shares if share
    ]
    return max(float(process.communicate()[0]) for process in started)


def bare_rate(tasks: int, slots: int, path: str = TRUE) -> float:
    """Processes a second."""
    return tasks / bare_s([path], tasks, slots)
