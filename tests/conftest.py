"""Marks tests by their tier (the directory) and, where everything has to run, turns skipping into failure."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Generator
from pathlib import Path

import pytest

TIERS = ("unit", "conformance", "simulation", "integration", "e2e")
ROOT = Path(__file__).parent
REQUIRE_ALL = "AIRAVATA_REQUIRE_ALL"
OPTIONAL = "optional"

_skipped = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_skipped] = []
    # By path, because the directories of tests are no packages.
    spec = importlib.util.spec_from_file_location("postgres_fixture", ROOT / "postgres_fixture.py")
    assert spec is not None
    assert spec.loader is not None
    fixtures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fixtures)
    config.pluginmanager.register(fixtures, "postgres-fixture")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(ROOT) and (tier := item.path.relative_to(ROOT).parts[0]) in TIERS:
            item.add_marker(tier)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if item.get_closest_marker(OPTIONAL):
        # Properties travel from xdist's workers to the process that decides, markers do not.
        report.user_properties.append((OPTIONAL, True))
    return report


class SkipPolicy:
    """Collects what was skipped, in the process that reports (not in xdist's workers)."""

    def __init__(self, config: pytest.Config) -> None:
        self.skipped = config.stash[_skipped]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        expected_failure = hasattr(report, "wasxfail")
        if report.skipped and not expected_failure and (OPTIONAL, True) not in report.user_properties:
            self.skipped.append(f"{report.nodeid}: {_reason(report)}")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.skipped.append(f"{report.nodeid}: {_reason(report)}")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.skipped and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.skipped:
            terminalreporter.section(f"skipped although {REQUIRE_ALL}=1", red=True)
            for line in self.skipped:
                terminalreporter.write_line(line)
            terminalreporter.write_line("Provide what they need, or mark them optional('why') if CI may lack it.")


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    reports_here = not hasattr(session.config, "workerinput")
    if reports_here and os.environ.get(REQUIRE_ALL) == "1":
        session.config.pluginmanager.register(SkipPolicy(session.config), "skip-policy")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
