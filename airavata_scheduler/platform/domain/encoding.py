"""Parameters as text: the same in documents, hashes and the environments of tasks. Standard library only."""

from __future__ import annotations

import json
from typing import Any


def encode_value(value: Any) -> str:
    """How a parameter's value becomes an environment variable.

    Text as it is; whole numbers in decimal; floats with as many digits as bring the same float back; ``true`` and
    ``false``; everything else as compact JSON.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
