"""The alert rules that are shipped: what they read, and where they send the reader. What they do: `promtool test rules`
(tests/integration/ops)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ingestd.ops.metrics import Metrics
from tests.support.exposed import exposed

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "prometheus"
RULES = (FOLDER / "ingestd.rules.yml").read_text(encoding="utf-8")
CASES = (ROOT / "tests" / "integration" / "ops" / "alerts.test.yml").read_text(encoding="utf-8")
RUNBOOKS = ROOT / "docs" / "runbooks.md"
PARTS = ("It means", "Look at", "Do", "It ends")
# What stands in an expression beside metrics: texts, label matchers and ranges; label lists; words; functions.
NOT_METRICS = re.compile(
    r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:\w+ )?(?:by|on) \([^)]*\)|\b(?:and|or|unless|offset)\b|\b\d\w*|\b\w+(?=\s*\()'
)


def field(rule: str, name: str) -> str:
    (found,) = re.findall(rf"^ +{name}: (.+)$", rule, re.MULTILINE)
    return str(found).strip('"')


def rules() -> dict[str, str]:
    """The text of each rule, by the name of its alert."""
    _, *found = re.split(r"^ +- alert: ", RULES, flags=re.MULTILINE)
    return {rule.partition("\n")[0]: rule for rule in found}


def names_in(expression: str) -> set[str]:
    """The metrics that a PromQL expression reads."""
    return set(re.findall(r"[A-Za-z_:][\w:]*", NOT_METRICS.sub(" ", expression)))


def sections() -> dict[str, str]:
    """The sections of the page, by the names that a link gives them."""
    _, *found = re.split(r"^## ", RUNBOOKS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {section.partition("\n")[0].lower(): section for section in found}


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("time() - a_seconds > 60", {"a_seconds"}),
        ('increase(a_total{outcome="b c"}[1h]) > 0 or (a_total unless d_total offset 15m) > 0', {"a_total", "d_total"}),
        ("sum by (job, source) (a) == 0 and on (job) max by (job) (max_over_time(b[1d])) > 4 * 3600", {"a", "b"}),
    ],
)
def test_metrics_are_found_in_an_expression(expression: str, names: set[str]) -> None:
    assert names_in(expression) == names


@pytest.mark.parametrize("alert", rules())
def test_each_alert_reads_only_what_the_daemon_exports(alert: str) -> None:
    exported = set(re.findall(r"^# TYPE (\S+) ", exposed(Metrics()), re.MULTILINE))
    read = names_in(field(rules()[alert], "expr"))
    assert read
    assert read - exported == set()


@pytest.mark.parametrize("alert", rules())
def test_each_alert_has_its_section(alert: str) -> None:
    page, _, section = field(rules()[alert], "runbook").partition("#")
    assert (FOLDER / page).resolve() == RUNBOOKS
    assert section == alert.lower()
    assert [part for part in PARTS if f"**{part}" not in sections()[section]] == []


def test_each_section_has_its_alert() -> None:
    assert set(sections()) == {alert.lower() for alert in rules()}


@pytest.mark.parametrize("alert", rules())
def test_each_alert_says_how_urgent_it_is_and_what_happened_to_what(alert: str) -> None:
    assert field(rules()[alert], "labels") in ("{severity: critical}", "{severity: warning}")
    assert "{{ $labels." in field(rules()[alert], "summary")


@pytest.mark.parametrize("alert", rules())
def test_each_alert_is_tried_and_named_among_the_alarms(alert: str) -> None:
    assert f"alertname: {alert}\n" in CASES
    assert f"(runbooks.md#{alert.lower()})" in (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
