"""The tables of docs/performance.md, from benchmarks/figures.json.

    python -m benchmarks.report

What stands between `<!-- NAME -->` and `<!-- /NAME -->` in the document is replaced; the words around it are written by
hand. Names: machine, figures, peers, processes, stages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.catalogue import CATALOGUE, Figure
from benchmarks.sections import FIGURES, SECTIONS, kept

DOCUMENT = FIGURES.parents[1] / "docs" / "performance.md"


def _rows(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = rows
    lines = [head, ["---"] * len(head), *rest]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return ""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{text} {unit}".strip()


def _reached(figure: Figure, value: float) -> str:
    text = _number(value, figure.unit)
    if not figure.meets(value, figure.must):
        return f"**{text}, missed**"
    return text if figure.aim is None or not figure.meets(value, figure.aim) else f"**{text}**"


def figures(sections: dict[str, Any]) -> str:
    """Every figure with its must and its aim."""
    rows = [["what", "must", "aim", "reached", "section"]]
    for figure in CATALOGUE:
        value = sections.get(figure.section, {}).get("figures", {}).get(figure.key)
        reached = "not measured" if value is None else _reached(figure, value)
        must, aim = _number(figure.must, figure.unit), _number(figure.aim, figure.unit)
        rows.append([figure.title, must, aim, reached, figure.section])
    return _rows(rows)


def machine(known: dict[str, Any]) -> str:
    """Where, when and how disturbed; with the commands."""
    facts = known["machine"]
    text = (
        f"{facts['cores']} cores of {facts['cpu']}, {facts['memory_gb']} GB, Linux {facts['kernel']}, "
        f"Python {facts['python']}."
    )
    rows = [["section", "command", "bare spawns/s", "load before", "stolen", "took", "code"]]
    for name in (section.name for section in SECTIONS if section.name in known["sections"]):
        section = known["sections"][name]
        seen = section["machine"]
        rows.append(
            [
                name,
                f"`{section['command']}`",
                _number(section["spawn_per_s"]),
                f"{seen['load_before']:.1f}",
                f"{seen['stolen']:.0%}",
                f"{seen['took_s']:.0f} s",
                section["commit"],
            ]
        )
    return f"{text}\n\n{_rows(rows)}"


def peers(sections: dict[str, Any]) -> str:
    """Rates of the same run."""
    line = sections["process"]["line"]
    rows = [["what", "tasks/s", "of the bare rate", "ours is"]]
    rows.append(["bare `posix_spawn` and `wait4`", _number(line["spawn_per_s"]), "1", _number(line["ratio"], "x")])
    rows.append(["Airavata Scheduler", _number(line["tasks_per_s"]), _number(line["ratio"]), ""])
    for name, peer in sorted(line["peers"].items(), key=lambda item: -item[1].get("tasks_per_s", 0)):
        if "failed" in peer:
            rows.append([name, peer["failed"].replace("|", "\\|"), "", ""])
        else:
            rate, ratio, ours = peer["tasks_per_s"], peer["ratio"], peer["ours_to_theirs"]
            rows.append([name, _number(rate), _number(ratio), _number(ours, "x")])
    return _rows(rows)


def micros(parts: dict[str, float], title: str) -> str:
    """Parts of a task's CPU time."""
    ordered = sorted(parts.items(), key=lambda item: -item[1])
    shown = [[name, f"{value:.1f}"] for name, value in ordered if value >= 0.5]
    rest = sum(value for value in parts.values() if value < 0.5)
    return _rows([[title, "us a task"], *shown, *([["the rest", f"{rest:.1f}"]] if rest else [])])


def blocks() -> Iterator[tuple[str, str]]:
    """Name and text of what can be written."""
    known = kept()
    sections = known["sections"]
    yield "machine", machine(known)
    yield "figures", figures(sections)
    if "process" in sections:
        yield "peers", peers(sections)
    if "profile" in sections:
        line = sections["profile"]["line"]
        yield "processes", micros(line["processes"], "process")
        yield "stages", micros(line["stages"], "stage")


def main() -> None:
    """Rewrite the document."""
    text = DOCUMENT.read_text()
    for name, block in blocks():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            message = f"{DOCUMENT.name} has no <!-- {name} --> … <!-- /{name} -->"
            raise SystemExit(message)
        text = pattern.sub(lambda found, block=block: f"{found[1]}\n{block}\n\n{found[2]}", text)  # type: ignore[misc]
    DOCUMENT.write_text(text)


if __name__ == "__main__":
    main()
