"""The list, at the end of a run, of what did not run: silence would pass for success."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name every skipped test, by reason."""
    list_skipped(terminalreporter.write_line, terminalreporter.stats.get("skipped", []))


def list_skipped(write_line: Callable[[str], None], skipped: list[Any]) -> None:
    """Say at the end of the run, by name, what did not run and why."""
    reasons: dict[str, list[str]] = {}
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons.setdefault(reason.removeprefix("Skipped: "), []).append(report.nodeid)
    for reason, names in sorted(reasons.items()):
        write_line(f"NOT RUN ({len(names)}): {reason}")
        for name in names:
            write_line(f"    {name}")
