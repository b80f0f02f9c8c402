"""What actors tell the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from airavata_scheduler.actors.collector import spare_what_is_loaded


class Node:
    """Part of a cycle."""

    again: Node | None = None


@pytest.fixture
def collector() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@pytest.mark.usefixtures("collector")
def test_what_is_loaded_is_spared_and_later_garbage_is_not() -> None:
    loaded = {"what": ["a", "module", "holds"]}
    spare_what_is_loaded()
    looked_at = {id(one) for one in gc.get_objects()}
    assert id(loaded) not in looked_at
    node = Node()
    node.again = node
    del node
    assert gc.collect() >= 1
