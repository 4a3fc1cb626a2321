"""Frames of exchanges with a decoder of our own, as their documents show them: `tests/contract/frames/<exchange>.txt`.

The first line of a file is what is followed, a symbol by its market id on the socket; each further line is a frame.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parents[1] / "contract" / "frames"
DOCUMENTED = tuple(sorted(file.stem for file in FOLDER.glob("*.txt")))
"""The exchanges that have such a file."""


class Documented(NamedTuple):
    """One exchange's."""

    symbols: Mapping[str, str]
    frames: list[bytes]


@functools.cache
def documented(exchange: str) -> Documented:
    """The frames of this exchange."""
    first, *frames = (FOLDER / f"{exchange}.txt").read_bytes().splitlines()
    return Documented(json.loads(first), frames)
