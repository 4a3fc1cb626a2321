"""Writes the tables of docs/durability.md from what a run of the fault tests measured (`make fault`)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fault.registry import FAULTS, WRITE, Fault

DOCUMENT = Path(__file__).parents[2] / "docs" / "durability.md"
_SHOWN = 4  # measurements of one fault


@dataclass
class Result:
    """What became of one test, over all its parameters."""

    passed: int = 0
    failed: int = 0
    skipped: list[str] = field(default_factory=list)
    measured: list[str] = field(default_factory=list)
    campaigns: list[str] = field(default_factory=list)


_results: dict[str, Result] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the outcome and what the test measured."""
    result = _results.setdefault(re.sub(r"\[.*", "", report.nodeid), Result())
    if report.failed:
        result.failed += 1
    elif report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        result.skipped.append(reason.removeprefix("Skipped: "))
    elif report.when == "call":
        result.passed += 1
        result.measured += [str(value) for name, value in report.user_properties if name == "measured"]
        result.campaigns += [str(value) for name, value in report.user_properties if name == "campaign"]


def pytest_sessionfinish() -> None:
    """Write the document, when this run was asked for it."""
    if os.environ.get(WRITE):
        text = DOCUMENT.read_text(encoding="utf-8")
        text = between_marks(text, "matrix", matrix(FAULTS, _results))
        campaigns = [f"- {line}" for result in _results.values() for line in result.campaigns]
        DOCUMENT.write_text(between_marks(text, "campaign", campaigns), encoding="utf-8")


def matrix(faults: Sequence[Fault], results: Mapping[str, Result]) -> list[str]:
    """The table's lines."""
    lines = ["| # | Fault | Expected | Measured | Tests |", "|---|---|---|---|---|"]
    for fault in faults:
        found = [results.get(test) for test in fault.tests]
        measured = "; ".join(filter(None, (_measured(found), fault.note))) if fault.tests else f"no test: {fault.note}"
        tests = ", ".join(f"`{test.partition('::')[2]}`" for test in fault.tests) or "–"
        lines.append(f"| {fault.number} | {fault.name} | {fault.expected} | {measured} | {tests} |")
    return lines


def _measured(found: Sequence[Result | None]) -> str:
    known = [result for result in found if result is not None]
    failed = sum(result.failed for result in known)
    skipped = [reason for result in known for reason in result.skipped]
    parts = [text for result in known for text in result.measured][:_SHOWN]
    if failed:
        parts.append(f"**{failed} failed**")
    if not parts and (passed := sum(result.passed for result in known)):
        parts.append(f"{passed} tests passed")
    if skipped or len(known) < len(found):
        parts.append(f"not run: {', '.join(sorted(set(skipped))) or 'left out of this run'}")
    return "; ".join(parts)


def between_marks(text: str, name: str, lines: Sequence[str]) -> str:
    """The document with these lines in the place of what stood between `<!-- name -->` and `<!-- end name -->`."""
    start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
    before, _, rest = text.partition(start)
    _, found, after = rest.partition(end)
    assert found, f"{DOCUMENT} has no marks {start} … {end}"
    return "\n".join((before + start, *lines, end + after))
