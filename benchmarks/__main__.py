"""All benchmarks, beside the figures kept in the repository.

    python -m benchmarks [--quick] [--only SECTION,…] [--keep]

Prints a table: what each figure must be, should be, is, and was; and whether it got better or worse by more than noise.
Times and rates are compared in units of the bare spawn rate of their own run, so that a faster machine is no
improvement. Ends with 1 if a must is missed or a section failed. `--keep` writes the figures into `figures.json`, from
which `python -m benchmarks.report` makes the tables of `docs/performance.md`.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from benchmarks.catalogue import CATALOGUE, Figure
from benchmarks.saying import say
from benchmarks.sections import SECTIONS, Section, SectionError, keep, kept, run_section


def verdict(figure: Figure, now: dict[str, Any], then: dict[str, Any] | None) -> str:
    """In words."""
    value = now["figures"][figure.key]
    words = [] if figure.meets(value, figure.must) else ["MUST MISSED"]
    before = (then or {}).get("figures", {}).get(figure.key)
    if before is not None:
        gain = figure.gain(value, before, now["spawn_per_s"], then["spawn_per_s"] if then else 1.0)
        if abs(gain) > figure.noise:
            words.append(f"{'better' if gain > 0 else 'worse'} by {abs(gain):.0%}")
    return ", ".join(words)


def table(ran: dict[str, Any], known: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of words."""
    rows: list[tuple[str, ...]] = [("figure", "must", "aim", "now", "kept", "")]
    for figure in CATALOGUE:
        now, then = ran.get(figure.section), known.get(figure.section)
        if now is None or figure.key not in now["figures"]:
            continue
        before = (then or {}).get("figures", {}).get(figure.key)
        limits = (figure.must, figure.aim, now["figures"][figure.key], before)
        texts = ("" if value is None else f"{value:.4g}" for value in limits)
        rows.append(
            (f"{figure.title} [{figure.unit}]" if figure.unit else figure.title, *texts, verdict(figure, now, then))
        )
    return rows


def missed(ran: dict[str, Any]) -> list[str]:
    """Names of the figures that miss their must, or are missing in a section that has run."""
    return [
        figure.name
        for figure in CATALOGUE
        if figure.must is not None
        and figure.section in ran
        and not (
            figure.key in ran[figure.section]["figures"]
            and figure.meets(ran[figure.section]["figures"][figure.key], figure.must)
        )
    ]


def _sections(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = sorted(set(names) - {section.name for section in SECTIONS})
    if unknown:
        message = f"unknown: {', '.join(unknown)}; choose from {', '.join(section.name for section in SECTIONS)}"
        raise argparse.ArgumentTypeError(message)
    return names


def _chosen(options: argparse.Namespace) -> list[Section]:
    wanted = options.only or [section.name for section in SECTIONS]
    return [section for section in SECTIONS if section.name in wanted and not (options.quick and section.quick is None)]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sections, fewer repetitions")
    parser.add_argument("--only", type=_sections, default=[], metavar="SECTION,…")
    parser.add_argument("--keep", action="store_true", help="write the figures into figures.json")
    options = parser.parse_args()
    if options.quick and options.keep:
        parser.error("quick figures are too rough to be kept")
    known, ran, failed = kept()["sections"], {}, []
    for section in _chosen(options):
        say(f"== {section.name}")
        try:
            ran[section.name] = run_section(section, quick=options.quick)
        except SectionError as error:
            failed.append(str(error))
            say(str(error))
            continue
        if options.keep:
            keep({section.name: ran[section.name]})
    rows = table(ran, known)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    for text in failed:
        print(text)
    for name in missed(ran):
        print(f"missed: {name}")
    sys.exit(1 if failed or missed(ran) else 0)


if __name__ == "__main__":
    main()
