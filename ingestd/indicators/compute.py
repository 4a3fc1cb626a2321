"""The seam to TA-Lib: an indicator's values at given candles, each from its own window of candles. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from decimal import Decimal

import numpy as np
import talib

from ingestd.config.indicator_names import Indicator
from ingestd.indicators.series import Candles

_DIGITS = 12  # of a double's 15 to 17: the others differ between processors and versions of a library


def values(
    indicator: Indicator, window: int, candles: Candles, places: Sequence[int]
) -> Iterator[tuple[Decimal | None, ...]]:
    """The outputs at each of these places: None where fewer than `window` candles end there, or where the function has
    no value (a division by zero).

    The value at a place depends on the `window` candles that end there and on nothing else. So it is the same whenever
    it is computed, however much history there is.
    """
    function, arguments = getattr(talib, indicator.function.name.upper()), indicator.arguments
    columns = [np.array(getattr(candles, field), dtype=np.float64) for field in indicator.function.inputs]
    nothing = (None,) * max(1, len(indicator.function.outputs))
    for place in places:
        end = place + 1
        if end < window:
            yield nothing
            continue
        made = function(*(column[end - window : end] for column in columns), **arguments)
        outputs = made if isinstance(made, tuple) else (made,)
        yield tuple(_decimal(float(output[-1])) for output in outputs)


def _decimal(value: float) -> Decimal | None:
    return Decimal(f"{value + 0.0:.{_DIGITS}g}") if math.isfinite(value) else None
