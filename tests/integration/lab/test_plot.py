"""The picture of the benchmark. The library that draws looks for fonts by a process, once on each machine."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from ingestd.errors import ConfigError
from ingestd.lab.bench import plot
from tests.unit.lab.bench.test_plot import FIGURES


def test_a_picture_is_drawn_or_refused_before_anything_is_measured(tmp_path: Path) -> None:
    if find_spec("matplotlib") is None:
        with pytest.raises(ConfigError, match=r"ingestd\[plot\]"):
            plot.require()
        return
    plot.require()
    plot.draw(FIGURES, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
