"""Targets met and short, on both sides of each bound, and the texts made of them."""

from __future__ import annotations

import pytest

from ingestd.lab.bench.figures import Figure, Figures
from ingestd.lab.bench.table import Machine, as_document, as_markdown, as_text, shown
from ingestd.lab.bench.targets import TARGETS, judge

MACHINE = Machine("a processor", 2, 24.0, "3.11.7", "PostgreSQL 18.6", 0.5, 3.0, "ingestd bench --quick")


def figures_of(**values: float) -> Figures:
    return Figures(Figure(key.replace("__", "."), key, value, "/s") for key, value in values.items())


@pytest.mark.parametrize(
    ("line", "values", "verdict"),
    [
        ("wire → committed rows", {"wire__native": 90.0, "wire__psql": 100.0}, "met"),
        ("wire → committed rows", {"wire__native": 89.0, "wire__psql": 100.0}, "short"),
        ("the same, against the peer", {"wire__native": 400.0, "peer__postgres": 100.0}, "met"),
        ("the same, against the peer", {"wire__native": 399.0, "peer__postgres": 100.0}, "short"),
        ("the same with Redis and Kafka", {"wire__all_sinks": 60.0, "wire__native": 100.0}, "met"),
        ("the same with Redis and Kafka", {"wire__all_sinks": 59.0, "wire__native": 100.0}, "short"),
        ("native decode", {"feed__native": 1000.0, "feed__ccxt": 100.0}, "met"),
        ("native decode", {"feed__native": 999.0, "feed__ccxt": 100.0}, "short"),
        ("wire → Redis subscriber", {"latency__subscriber_p99_at_10000": 5.0}, "met"),
        ("wire → Redis subscriber", {"latency__subscriber_p99_at_10000": 5.1}, "short"),
        ("wire → committed at 20k", {"latency__committed_p99_at_20000": 350.0}, "met"),
        ("wire → committed at 20k", {"latency__committed_p99_at_20000": 351.0}, "short"),
        ("memory growth", {"outage__growth": 64.0}, "met"),
        ("memory growth", {"outage__growth": 65.0}, "short"),
        ("catch-up", {"outage__catch_up": 15_000.0, "outage__live": 5_000.0}, "met"),
        ("catch-up", {"outage__catch_up": 14_999.0, "outage__live": 5_000.0}, "short"),
        ("start to first", {"start__first_row": 3.0}, "met"),
        ("start to first", {"start__first_row": 3.1}, "short"),
        ("cost per event", {"growth__us_2000_symbols_1": 12.5, "growth__us_10_symbols_1": 10.0}, "met"),
        ("cost per event", {"growth__us_2000_symbols_1": 12.6, "growth__us_10_symbols_1": 10.0}, "short"),
    ],
)
def test_a_target_is_met_up_to_its_bound(line: str, values: dict[str, float], verdict: str) -> None:
    (judged,) = (judged for judged in judge(figures_of(**values)) if judged.what.startswith(line))
    assert judged.verdict == verdict


def test_what_was_not_measured_is_said_to_be_so() -> None:
    judged = judge(figures_of(wire__native=90.0))
    assert len(judged) == len(TARGETS)
    assert {line.verdict for line in judged} == {"not measured"}


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (219_431.4, "/s", "219,431/s"),
        (2.345, "s", "2.35 s"),
        (12.34, "ms", "12.3 ms"),
        (0.0, "trades", "0 trades"),
        (-0.4, "MiB", "-0.40 MiB"),
    ],
)
def test_a_value_is_shown_with_the_digits_that_mean_something(value: float, unit: str, text: str) -> None:
    assert shown(Figure("k", "what", value, unit)) == text


def test_the_texts_name_the_machine_the_ratios_and_the_verdicts() -> None:
    figures = Figures(
        [
            Figure("wire.psql", "psql | copy", 200_000.0, "/s"),
            Figure("wire.native", "native", 100_000.0, "/s", "wire.psql", "a note"),
        ]
    )
    text, markdown = as_text(MACHINE, figures), as_markdown(MACHINE, figures)
    for made in (text, markdown):
        assert "PostgreSQL 18.6; load 0.5 before, 3.0 after." in made
        assert "0.50×" in made
        assert "short" in made
        assert "a note" in made
    assert "| native | 100,000/s | 0.50 × psql \\| copy | a note |" in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {5}
    document = as_document(MACHINE, figures)
    assert document["figures"][1]["ratio"] == 0.5
    assert document["targets"][0] == {
        "what": TARGETS[0].what,
        "target": TARGETS[0].text,
        "measured": "0.50×",
        "verdict": "short",
    }
