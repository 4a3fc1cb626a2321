"""Technical indicators a second time, candle by candle from the beginning of the history, without TA-Lib.

Those that talipp (a library that updates its values with each candle) has are its own; the others are written here by
their definitions.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from talipp import indicators as talipp
from talipp.ohlcv import OHLCV

from ingestd.indicators.series import Candles

Outputs = list[tuple[float | None, ...]]


def random_candles(count: int, seed: int = 7) -> Candles:
    """A random walk of hours, with gaps between one close and the next open."""
    chance = random.Random(seed)
    rows = []
    price = 100.0
    for number in range(count):
        opened = price * (1 + chance.gauss(0, 0.002))
        close = opened * (1 + chance.gauss(0, 0.01))
        high = max(opened, close) * (1 + abs(chance.gauss(0, 0.004)))
        low = min(opened, close) * (1 - abs(chance.gauss(0, 0.004)))
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number)
        rows.append((at, opened, high, low, close, chance.uniform(1, 100)))
        price = close
    return Candles(*map(list, zip(*rows, strict=True)))


def expected(name: str, parameters: Sequence[float], candles: Candles) -> Outputs:
    """The outputs of a function at each candle, None before its first value."""
    return ORACLES[name](candles, *parameters)


def _bars(candles: Candles) -> list[OHLCV]:
    columns = (candles.open, candles.high, candles.low, candles.close, candles.volume)
    return [OHLCV(*row) for row in zip(*columns, strict=True)]


def _single(made: Iterable[float | None]) -> Outputs:
    return [(value,) for value in made]


def _fields(made: Iterable[Any], *names: str) -> Outputs:
    return [tuple(None if row is None else getattr(row, name) for name in names) for row in made]


def _windowed(
    values: Sequence[float | None], count: int, function: Callable[[list[float]], float]
) -> list[float | None]:
    """The function of each `count` values in a row that are known."""
    made: list[float | None] = []
    for end in range(1, len(values) + 1):
        window = [value for value in values[max(0, end - count) : end] if value is not None]
        made.append(function(window) if len(window) == count else None)
    return made


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _wilder(values: Sequence[float], period: int) -> list[float | None]:
    """Wilder's average of values that begin with the second candle, at each candle."""
    made: list[float | None] = [None] * period
    average = _mean(list(values[:period]))
    made.append(average)
    for value in values[period:]:
        average += (value - average) / period
        made.append(average)
    return made


def _steps(values: Sequence[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(values)]


def _trima(c: Candles, n: float) -> Outputs:
    one, other = (int(n) // 2, int(n) // 2 + 1) if n % 2 == 0 else ((int(n) + 1) // 2,) * 2
    return _single(_windowed(_windowed(c.close, one, _mean), other, _mean))


def _rises_and_falls(close: Sequence[float], n: float) -> list[tuple[float, float] | None]:
    up = _wilder([max(step, 0.0) for step in _steps(close)], int(n))
    down = _wilder([max(-step, 0.0) for step in _steps(close)], int(n))
    return [None if u is None or d is None else (u, d) for u, d in zip(up, down, strict=True)]


def _cmo(c: Candles, n: float) -> Outputs:
    both = _rises_and_falls(c.close, n)
    return _single(None if pair is None else 100 * (pair[0] - pair[1]) / (pair[0] + pair[1]) for pair in both)


def _rsi(c: Candles, n: float) -> list[float | None]:
    return [None if pair is None else 100 * pair[0] / (pair[0] + pair[1]) for pair in _rises_and_falls(c.close, n)]


def _true_ranges(c: Candles) -> list[float]:
    return [
        max(c.high[i] - c.low[i], abs(c.high[i] - c.close[i - 1]), abs(c.low[i] - c.close[i - 1]))
        for i in range(1, len(c.close))
    ]


def _directed(c: Candles, n: float) -> list[tuple[float, float] | None]:
    """The directional indicators, up and down."""
    moves = list(zip(_steps(c.high), [-step for step in _steps(c.low)], strict=True))
    up = _wilder([u if u > d and u > 0 else 0.0 for u, d in moves], int(n))
    down = _wilder([d if d > u and d > 0 else 0.0 for u, d in moves], int(n))
    whole = _wilder(_true_ranges(c), int(n))
    return [
        None if u is None or d is None or t is None else (100 * u / t, 100 * d / t)
        for u, d, t in zip(up, down, whole, strict=True)
    ]


def _adx(c: Candles, n: float) -> Outputs:
    known = [pair for pair in _directed(c, n) if pair is not None]
    strength = [100 * abs(u - d) / (u + d) for u, d in known]
    return _single([None] * (len(c.close) - len(known)) + _wilder(strength, int(n))[1:])


def _linearreg(values: list[float]) -> float:
    n = len(values)
    mean_x, mean_y = (n - 1) / 2, _mean(values)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in enumerate(values)) / sum((x - mean_x) ** 2 for x in range(n))
    return mean_y + slope * (n - 1 - mean_x)


def _fast_k(high: Sequence[Any], low: Sequence[Any], close: Sequence[Any], n: float) -> list[float | None]:
    top, bottom = _windowed(high, int(n), max), _windowed(low, int(n), min)
    return [
        None if t is None or b is None else 100 * (value - b) / (t - b)
        for t, b, value in zip(top, bottom, close, strict=True)
    ]


def _stoch(c: Candles, fast: float, slow: float, signal: float) -> Outputs:
    k = _windowed(_fast_k(c.high, c.low, c.close, fast), int(slow), _mean)
    return list(zip(k, _windowed(k, int(signal), _mean), strict=True))


def _stochrsi(c: Candles, n: float, fast: float, signal: float) -> Outputs:
    rsi = _rsi(c, n)
    k = _fast_k(rsi, rsi, rsi, fast)
    return list(zip(k, _windowed(k, int(signal), _mean), strict=True))


def _mfi(c: Candles, n: float) -> Outputs:
    typical = [_mean([*bar]) for bar in zip(c.high, c.low, c.close, strict=True)]
    flows = [step and price * volume * (1 if step > 0 else -1) for step, price, volume in
             zip(_steps(typical), typical[1:], c.volume[1:], strict=True)]  # fmt: skip
    ratio = _windowed(flows, int(n), lambda window: 100 * sum(f for f in window if f > 0) / sum(map(abs, window)))
    return _single([None, *ratio])


def _ultosc(c: Candles, *periods: float) -> Outputs:
    pressure = [c.close[i] - min(c.low[i], c.close[i - 1]) for i in range(1, len(c.close))]
    sums = [
        [
            None if p is None or t is None else p / t
            for p, t in zip(_windowed(pressure, int(n), sum), _windowed(_true_ranges(c), int(n), sum), strict=True)
        ]
        for n in sorted(periods)
    ]
    made = [None if None in row else 100 * (4 * row[0] + 2 * row[1] + row[2]) / 7 for row in zip(*sums, strict=True)]
    return _single([None, *made])


def _aroon(c: Candles, n: float) -> list[tuple[float | None, ...]]:
    count = int(n) + 1
    down = _windowed(c.low, count, lambda w: 100 * max(i for i, v in enumerate(w) if v == min(w)) / n)
    up = _windowed(c.high, count, lambda w: 100 * max(i for i, v in enumerate(w) if v == max(w)) / n)
    return list(zip(down, up, strict=True))


def _middle(c: Candles, n: float) -> Outputs:
    top, bottom = _windowed(c.high, int(n), max), _windowed(c.low, int(n), min)
    return _single(None if t is None or b is None else (t + b) / 2 for t, b in zip(top, bottom, strict=True))


def _bbands(c: Candles, n: float, up: float, down: float) -> Outputs:
    middle, spread = talipp.SMA(int(n), c.close), talipp.StdDev(int(n), c.close)
    return [
        (None, None, None) if m is None else (m + up * s, m, m - down * s) for m, s in zip(middle, spread, strict=True)
    ]


def _unless_none(values: Iterable[Any], function: Callable[[Any], float]) -> Outputs:
    return _single(None if value is None else function(value) for value in values)


ORACLES: dict[str, Callable[..., Outputs]] = {
    "sma": lambda c, n: _single(talipp.SMA(int(n), c.close)),
    "wma": lambda c, n: _single(talipp.WMA(int(n), c.close)),
    "trima": _trima,
    "ema": lambda c, n: _single(talipp.EMA(int(n), c.close)),
    "dema": lambda c, n: _single(talipp.DEMA(int(n), c.close)),
    "tema": lambda c, n: _single(talipp.TEMA(int(n), c.close)),
    # talipp's is in shares of ten thousand.
    "trix": lambda c, n: _unless_none(talipp.TRIX(int(n), c.close), lambda value: value / 100),
    "rsi": lambda c, n: _single(talipp.RSI(int(n), c.close)),
    "cmo": _cmo,
    "mom": lambda c, n: _single([None] * int(n) + [b - a for a, b in zip(c.close, c.close[int(n) :], strict=False)]),
    "roc": lambda c, n: _single(talipp.ROC(int(n), c.close)),
    "linearreg": lambda c, n: _single(_windowed(c.close, int(n), _linearreg)),
    "min": lambda c, n: _single(_windowed(c.close, int(n), min)),
    "max": lambda c, n: _single(_windowed(c.close, int(n), max)),
    "stddev": lambda c, n, factor: _unless_none(talipp.StdDev(int(n), c.close), lambda value: value * factor),
    "bbands": _bbands,
    "macd": lambda c, f, s, g: _fields(talipp.MACD(int(f), int(s), int(g), c.close), "macd", "signal", "histogram"),
    "stochrsi": _stochrsi,
    "midprice": _middle,
    "aroon": _aroon,
    "aroonosc": lambda c, n: _single(None if u is None or d is None else u - d for d, u in _aroon(c, n)),
    "atr": lambda c, n: _single(talipp.ATR(int(n), _bars(c))),
    "natr": lambda c, n: _single(talipp.NATR(int(n), _bars(c))),
    "plus_di": lambda c, n: _unless_none(_directed(c, n), lambda pair: pair[0]),
    "minus_di": lambda c, n: _unless_none(_directed(c, n), lambda pair: pair[1]),
    "adx": _adx,
    "cci": lambda c, n: _single(talipp.CCI(int(n), _bars(c))),
    "willr": lambda c, n: _unless_none(_fast_k(c.high, c.low, c.close, n), lambda value: value - 100),
    "ultosc": _ultosc,
    "stoch": _stoch,
    "mfi": _mfi,
}
