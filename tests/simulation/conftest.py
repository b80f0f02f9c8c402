"""Seeds of the simulation: `--seeds N` or AIRAVATA_SIM_SEEDS for more of them, `--first-seed` to begin elsewhere.

A failure names its seed; `--first-seed SEED --seeds 1` repeats it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# The parts of the simulator are modules beside the tests, which are no package.
sys.path.insert(0, str(Path(__file__).parent))

SEEDS = 1000
BLOCK = 50


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", type=int, default=None, help="how many seeds to simulate")
    parser.addoption("--first-seed", type=int, default=None, help="the first of them")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seeds" not in metafunc.fixturenames:
        return
    count = metafunc.config.getoption("--seeds", None) or int(os.environ.get("AIRAVATA_SIM_SEEDS", SEEDS))
    first = metafunc.config.getoption("--first-seed", None) or int(os.environ.get("AIRAVATA_SIM_FIRST", "0"))
    past = first + count
    blocks = [range(start, min(start + BLOCK, past)) for start in range(first, past, BLOCK)]
    metafunc.parametrize("seeds", blocks, ids=[f"{block.start}-{block.stop - 1}" for block in blocks])
