"""Plots throughput against the batch size and the number of symbols. The curves are computed by pure functions."""

from __future__ import annotations

import re
from pathlib import Path

from ingestd.errors import ConfigError, Problem
from ingestd.lab.bench.figures import Figures
from ingestd.lab.sim.child import how_to_install

Curve = list[tuple[float, float]]

_BATCH = re.compile(r"batch\.(\d+)")
_GROWTH = re.compile(r"growth\.us_(\d+)_symbols_(\d+)")


def require() -> None:
    """Check before minutes of measuring. Raises ConfigError if the plotting library is not installed."""
    try:
        import matplotlib.figure  # noqa: F401  # its parts too: half an installation is none
    except ImportError as error:
        raise ConfigError([Problem("--plot", f"needs matplotlib: {error}", hint=how_to_install("plot"))]) from error


def by_batch_size(figures: Figures) -> Curve:
    """Rows per commit, and rows per second."""
    return sorted(
        (float(match.group(1)), figure.value)
        for figure in figures.all()
        if (match := _BATCH.fullmatch(figure.key)) is not None
    )


def by_symbols(figures: Figures) -> dict[int, Curve]:
    """For each number of processes: symbols, and the events per second that one core can process."""
    curves: dict[int, Curve] = {}
    for figure in figures.all():
        match = _GROWTH.fullmatch(figure.key)
        if match is not None and figure.value > 0:
            curves.setdefault(int(match.group(2)), []).append((float(match.group(1)), 1e6 / figure.value))
    return {processes: sorted(curve) for processes, curve in sorted(curves.items())}


def draw(figures: Figures, file: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(11, 4.2), layout="constrained")
    left, right = picture.subplots(1, 2)
    batch_curve = by_batch_size(figures)
    left.plot(*zip(*batch_curve, strict=True), marker="o", label="the sink")
    limit = figures.value("store.psql")
    if limit is not None:
        left.axhline(limit, linestyle="--", color="gray", label="psql \\copy")
    left.set(
        xscale="log", xlabel="rows a commit", ylabel="rows a second", title="The sink by batch size", ylim=(0, None)
    )
    left.legend()
    for processes, curve in by_symbols(figures).items():
        right.plot(*zip(*curve, strict=True), marker="o", label=f"{processes} process{'es' if processes > 1 else ''}")
    right.set(xscale="log", xlabel="symbols", ylabel="events a second and core", ylim=(0, None))
    right.set_title("The daemon by symbols")
    right.legend()
    FigureCanvasAgg(picture)  # this backend needs no display
    picture.savefig(file, format="png")
