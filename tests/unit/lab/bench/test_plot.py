"""The curves of the benchmark's picture."""

from __future__ import annotations

from ingestd.lab.bench import plot
from ingestd.lab.bench.figures import Figure, Figures

FIGURES = Figures(
    [
        Figure("store.psql", "psql", 300.0, "/s"),
        Figure("batch.10000", "", 200.0, "/s"),
        Figure("batch.500", "", 90.0, "/s"),
        Figure("growth.us_2000_symbols_1", "", 10.0, "µs per event"),
        Figure("growth.us_10_symbols_1", "", 8.0, "µs per event"),
        Figure("growth.us_10_symbols_4", "", 20.0, "µs per event"),
    ]
)


def test_the_curves_are_in_order_and_costs_become_rates() -> None:
    assert plot.by_batch_size(FIGURES) == [(500.0, 90.0), (10_000.0, 200.0)]
    assert plot.by_symbols(FIGURES) == {1: [(10.0, 125_000.0), (2000.0, 100_000.0)], 4: [(10.0, 50_000.0)]}
    assert plot.by_batch_size(Figures()) == []
    assert plot.by_symbols(Figures()) == {}
