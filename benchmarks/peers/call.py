"""What a task of a Python peer does: run the program and keep its output, as we do."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence


def call(command: Sequence[str]) -> int:
    """The exit code. CalledProcessError unless it is 0."""
    return subprocess.run(command, capture_output=True, check=True).returncode
