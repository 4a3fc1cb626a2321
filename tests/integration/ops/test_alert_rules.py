"""The alert rules, by Prometheus' own tool: their syntax, and for each alert series that fire it and that do not."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

RULES = Path(__file__).parents[3] / "deploy" / "prometheus" / "ingestd.rules.yml"
CASES = Path(__file__).with_name("alerts.test.yml")


def promtool(*arguments: str | Path) -> str:
    """What the tool prints; fails the test if it finds a fault, and skips it where there is no tool."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool on this machine (Debian: apt install prometheus)")
    done = subprocess.run([found, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_accepts_every_rule() -> None:
    written = len(re.findall(r"^ +- alert: ", RULES.read_text(encoding="utf-8"), re.MULTILINE))
    assert f"SUCCESS: {written} rules found" in promtool("check", "rules", RULES)


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", CASES)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("ingestd_gaps_open > 0", "ingestd_gaps_open > 3"),  # one that no longer fires
        ("ingestd_sink_lag_seconds > 60", "ingestd_sink_lag_seconds >= 60"),  # one that fires too early
    ],
)
def test_a_wrong_rule_is_noticed(tmp_path: Path, right: str, wrong: str) -> None:
    rules = RULES.read_text(encoding="utf-8")
    assert rules.count(right) == 1
    (tmp_path / RULES.name).write_text(rules.replace(right, wrong), encoding="utf-8")
    cases = re.sub(r"rule_files: .*", f"rule_files: [{RULES.name}]", CASES.read_text(encoding="utf-8"))
    (tmp_path / CASES.name).write_text(cases, encoding="utf-8")

    with pytest.raises(AssertionError, match="FAILED"):
        promtool("test", "rules", tmp_path / CASES.name)
