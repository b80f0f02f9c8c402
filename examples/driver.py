"""A sweep from a driver script: random walks, run as Python functions in warm processes.

    airavata up --detach
    python examples/driver.py

The functions are in this very file: the workers import it as a module, so what runs the experiment is below `main`.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from airavata_scheduler.client import Client, Experiment


def walk(dimension: int, steps: int, seed: int) -> dict[str, float | bool]:
    """Walk on a grid until the origin is met again, at most `steps` long."""
    choose = random.Random(seed * 10 + dimension)
    place = [0] * dimension
    for step in range(1, steps + 1):
        place[choose.randrange(dimension)] += choose.choice((-1, 1))
        if not any(place):
            return {"returned": True, "after": step}
    return {"returned": False, "after": steps}


def main() -> int:
    """Submit, wait, and print how often walks return in one, two and three dimensions; 0 if all went well."""
    experiment = Experiment.sweep(
        "random-walks",
        python=walk,
        inputs={"dimension": [1, 2, 3], "steps": 10_000, "seed": range(1, 101)},
        results={"returned": "return#/returned", "after": "return#/after"},
    )
    with Client() as client:
        run = client.submit(experiment).wait(progress=True)
        if run.state["status"] != "SUCCEEDED":
            print(run.explain()["summary"])
            return 1
        run.save_results(Path("walks.parquet"))
        rows = run.results().select(["dimension", "returned"]).to_pylist()
    for dimension in (1, 2, 3):
        returned = [row["returned"] for row in rows if row["dimension"] == dimension]
        print(f"{dimension} dimensions: {sum(returned)} of {len(returned)} walks came back")
    return 0


if __name__ == "__main__":
    sys.exit(main())
