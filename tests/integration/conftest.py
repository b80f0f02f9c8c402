"""What several files of this tier start from."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

# Helper modules beside the tests, as `import agent_place`.
sys.path.insert(0, str(Path(__file__).parent))

from agent_place import MODES, Place, place_at


@pytest.fixture(params=MODES, ids=["namespace", "plain"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with place_at(tmp_path, sandbox=request.param) as found:
        yield found
