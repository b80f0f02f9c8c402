"""Scientific workflows in the WfCommons JSON format: made from a seed, and read into an instance.

The shapes are those of the Montage, Epigenomics, CyberShake and Seismology workflows: how many levels, who feeds whom,
which levels are wide, and the order of magnitude of runtimes and files. The documents are WfFormat 1.5 (`workflow.
specification.tasks`, `workflow.execution.tasks`), so that traces from WfCommons can be read by the same reader.
"""

from __future__ import annotations

import random
from typing import Any

from airavata_scheduler.scheduler_core import Estimate, Experiment, TaskGroup

SHAPES = ("montage", "epigenomics", "cybershake", "seismology")


class _Writer:
    """Collects tasks of a workflow while a shape is drawn."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.specification: list[dict[str, Any]] = []
        self.execution: list[dict[str, Any]] = []
        self.files: dict[str, int] = {}

    def task(self, name: str, mean_s: float, parents: list[str], mbytes: float, cores: int = 1) -> str:
        """Adds one task that runs about `mean_s` and writes about `mbytes`; returns its id."""
        key = f"{name}_{len(self.specification):05d}"
        runtime = self.dice.lognormvariate(0.0, 0.35) * mean_s
        out = f"{key}.dat"
        self.files[out] = int(self.dice.lognormvariate(0.0, 0.5) * mbytes * 1e6)
        inputs = [f"{parent}.dat" for parent in parents]
        if not parents:
            inputs = [f"{key}.in"]
            self.files[inputs[0]] = int(self.dice.lognormvariate(0.0, 0.5) * mbytes * 4e6)
        self.specification.append(
            {"name": name, "id": key, "parents": parents, "children": [], "inputFiles": inputs, "outputFiles": [out]}
        )
        self.execution.append({"id": key, "runtimeInSeconds": runtime, "coreCount": cores})
        return key

    def document(self, name: str) -> dict[str, Any]:
        """The workflow as WfFormat."""
        by_id = {task["id"]: task for task in self.specification}
        for task in self.specification:
            for parent in task["parents"]:
                by_id[parent]["children"].append(task["id"])
        files = [{"id": key, "sizeInBytes": size} for key, size in self.files.items()]
        return {
            "name": name,
            "schemaVersion": "1.5",
            "workflow": {
                "specification": {"tasks": self.specification, "files": files},
                "execution": {"tasks": self.execution},
            },
        }


def generate(shape: str, size: int, seed: int) -> dict[str, Any]:
    """A workflow of one of `SHAPES` with about `size` tasks."""
    writer = _Writer(random.Random(f"{shape} {size} {seed}"))  # noqa: S311 - seeded on purpose, no secret
    {"montage": _montage, "epigenomics": _epigenomics, "cybershake": _cybershake, "seismology": _seismology}[shape](
        writer, size
    )
    return writer.document(f"{shape}-{seed}")


def _montage(w: _Writer, size: int) -> None:
    images = max(4, size // 5)
    projected = [w.task("mProject", 90, [], 8) for _ in range(images)]
    overlaps = [
        w.task("mDiffFit", 25, [projected[i % images], projected[(i + w.dice.randint(1, 3)) % images]], 1)
        for i in range(images * 2)
    ]
    concat = w.task("mConcatFit", 60, overlaps, 1)
    model = w.task("mBgModel", 110, [concat], 1)
    corrected = [w.task("mBackground", 20, [projected[i], model], 8) for i in range(images)]
    table = w.task("mImgtbl", 30, corrected, 1)
    added = w.task("mAdd", 150, [table], 60, cores=2)
    w.task("mViewer", 60, [added], 10)


def _epigenomics(w: _Writer, size: int) -> None:
    lanes = max(2, size // 60)
    merged = []
    for _ in range(lanes):
        split = w.task("fastqSplit", 50, [], 60)
        ends = []
        for _ in range(max(2, size // lanes // 4)):
            step = w.task("filterContams", 30, [split], 5)
            step = w.task("sol2sanger", 12, [step], 5)
            step = w.task("fast2bfq", 20, [step], 3)
            ends.append(w.task("map", 240, [step], 2, cores=2))
        merged.append(w.task("mapMerge", 60, ends, 20))
    index = w.task("maqIndex", 120, merged, 20)
    w.task("pileup", 150, [index], 30)


def _cybershake(w: _Writer, size: int) -> None:
    sites = max(2, size // 50)
    peaks = []
    seismograms = []
    for _ in range(sites):
        extracted = [w.task("ExtractSGT", 110, [], 150) for _ in range(2)]
        for i in range(max(2, (size // sites - 2) // 2)):
            seismograms.append(w.task("SeismogramSynthesis", 48, [extracted[i % 2]], 0.2))
            peaks.append(w.task("PeakValCalc", 2, [seismograms[-1]], 0.01))
    w.task("ZipSeis", 40, seismograms, 20)
    w.task("ZipPSA", 30, peaks, 5)


def _seismology(w: _Writer, size: int) -> None:
    signals = [w.task("sG1IterDecon", 30, [], 2) for _ in range(max(4, size - 1))]
    w.task("wrapper_siftSTFByMisfit", 45, signals, 5)


def read(document: dict[str, Any], experiment: Experiment, home: str) -> tuple[TaskGroup, ...]:
    """Every task of a WfFormat document as a group of one, upward rank included; files without a parent are at `home`.

    Intermediate files are not moved between resources in this model: only what no task wrote is an input with a place.
    """
    specification = document["workflow"]["specification"]
    execution = {task["id"]: task for task in document["workflow"]["execution"]["tasks"]}
    sizes = {item["id"]: float(item["sizeInBytes"]) for item in specification["files"]}
    written = {name for task in specification["tasks"] for name in task["outputFiles"]}
    ranks = _ranks(specification["tasks"], execution)
    groups = []
    for task in specification["tasks"]:
        size = sum(sizes[name] for name in task["inputFiles"] if name not in written)
        groups.append(
            TaskGroup(
                key=task["id"],
                experiment=experiment.key,
                request={"cpu": float(execution[task["id"]].get("coreCount", 1))},
                runtime=Estimate(mean_s=execution[task["id"]]["runtimeInSeconds"]),
                n_ready=0 if task["parents"] else 1,
                n_blocked=1 if task["parents"] else 0,
                after=tuple(dict.fromkeys(task["parents"])),
                rank_s=ranks[task["id"]],
                inputs={home: size} if size > 0 else {},
            )
        )
    return tuple(groups)


def _ranks(tasks: list[dict[str, Any]], execution: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Seconds of work that follow each task on the longest chain, at speed 1; tasks are listed parents first."""
    ranks = dict.fromkeys((task["id"] for task in tasks), 0.0)
    for task in reversed(tasks):
        own = ranks[task["id"]] + execution[task["id"]]["runtimeInSeconds"]
        for parent in task["parents"]:
            ranks[parent] = max(ranks[parent], own)
    return ranks
