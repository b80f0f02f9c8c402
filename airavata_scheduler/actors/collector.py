"""Garbage collection in processes that live for weeks and handle thousands of small objects at a time.

Python's defaults look through all young objects every 700 new ones, which a batch of reports makes several times, and
now and then through everything that was ever imported, during which nobody is answered.
"""

from __future__ import annotations

import gc

_YOUNG_OBJECTS = 20_000


def spare_what_is_loaded() -> None:
    """Leave what the process consists of by now out of all later collections, and collect less often."""
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])
