"""Formats a run as text, as Markdown, and as a document for JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ingestd.lab.bench.figures import Figure, Figures
from ingestd.lab.bench.targets import judge


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine of the run, with its load averages at the start and at the end."""

    processor: str
    cores: int
    memory_gib: float
    python: str
    server: str
    load_before: float
    load_after: float
    command: str = "ingestd bench"

    def line(self) -> str:
        """Describe the machine in one sentence."""
        return (
            f"`{self.command}` on {self.processor}, {self.cores} cores, {self.memory_gib:.0f} GiB, "
            f"Python {self.python}, {self.server}; load {self.load_before:.1f} before, {self.load_after:.1f} after."
        )


def as_text(machine: Machine, figures: Figures) -> str:
    """Format the two tables as aligned text."""
    return "\n".join([machine.line(), "", _columns(_targets(figures)), "", _columns(_figures(figures))]) + "\n"


def as_markdown(machine: Machine, figures: Figures) -> str:
    """Format the two tables as Markdown."""
    return "\n".join([machine.line(), "", _pipes(_targets(figures)), "", _pipes(_figures(figures))]) + "\n"


def as_document(machine: Machine, figures: Figures) -> dict[str, Any]:
    """The run as plain values for JSON."""
    return {
        "machine": asdict(machine),
        "targets": [asdict(judged) for judged in judge(figures)],
        "figures": [{**asdict(figure), "ratio": figures.ratio(figure)} for figure in figures.all()],
    }


def _targets(figures: Figures) -> list[Sequence[str]]:
    rows = [(line.what, line.target, line.measured, line.verdict) for line in judge(figures)]
    return [("what", "target", "measured", ""), *rows]


def _figures(figures: Figures) -> list[Sequence[str]]:
    return [("measured", "value", "against", "note"), *(_figure_row(figures, figure) for figure in figures.all())]


def _figure_row(figures: Figures, figure: Figure) -> Sequence[str]:
    ratio = figures.ratio(figure)
    limit = next((other.what for other in figures.all() if other.key == figure.limit), "")
    return figure.what, shown(figure), f"{ratio:.2f} × {limit}" if ratio is not None else "", figure.note


def shown(figure: Figure) -> str:
    """Format a figure's value with its unit. The larger the value, the fewer its decimals."""
    value = figure.value
    digits = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}{'' if figure.unit.startswith('/') else ' '}{figure.unit}".strip()


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _pipes(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines: Iterable[Sequence[str]] = (head, ["---"] * len(head), *body)
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
