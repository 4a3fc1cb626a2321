"""Values from TA-Lib, compared with a second implementation that goes candle by candle through the whole history."""

from __future__ import annotations

import functools
from decimal import Decimal

import pytest
from talib import abstract

from ingestd.config.indicator_names import FUNCTIONS, parse
from ingestd.indicators.compute import values
from ingestd.indicators.series import Candles
from tests.support.indicators import ORACLES, Outputs, expected, random_candles

NAMES = (
    "sma_20", "wma_9", "trima_10", "trima_11", "ema_12", "dema_8", "tema_8", "trix_7", "rsi_14", "cmo_9", "mom_1",
    "roc_10", "linearreg_14", "min_15", "max_15", "stddev_20_1.5", "bbands_20_2_2.5", "macd_12_26_9", "macd_5_13_4",
    "stochrsi_14_5_3", "midprice_10", "aroon_14", "aroonosc_9", "atr_14", "natr_10", "plus_di_14", "minus_di_9",
    "adx_10", "cci_20", "willr_14", "ultosc_7_14_28", "stoch_5_3_3", "mfi_14",
)  # fmt: skip
HISTORY = random_candles(3000)
PLACES = range(2100, 3000, 89)


@functools.cache
def told(name: str) -> Outputs:
    """What the oracle says of the whole history."""
    indicator = parse(name)
    return expected(indicator.function.name, indicator.parameters, HISTORY)


def test_every_function_has_an_oracle_and_is_tried() -> None:
    assert set(FUNCTIONS) == set(ORACLES) == {parse(name).function.name for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_value_is_the_oracles(name: str) -> None:
    """With windows so long that the beginning of an average has no weight left."""
    indicator = parse(name)
    wanted = told(name)
    made = list(values(indicator, indicator.window(1e-11), HISTORY, PLACES))
    for place, outputs in zip(PLACES, made, strict=True):
        assert len(outputs) == len(indicator.names("1h"))
        numbers = [float(value) for value in outputs if value is not None]
        assert numbers == pytest.approx(wanted[place], rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_window_leaves_of_the_beginning_what_is_configured(name: str) -> None:
    """The oracle has seen all candles from the first on; the value only its window."""
    indicator, weight = parse(name), 0.0001
    wanted = told(name)
    made = list(values(indicator, indicator.window(weight), HISTORY, PLACES))
    for output in range(len(made[0])):
        every = [row[output] for row in wanted if row[output] is not None]
        spread = max(every) - min(every)  # type: ignore[type-var,operator]  # none is None
        for place, outputs in zip(PLACES, made, strict=True):
            assert float(outputs[output] or 0) == pytest.approx(wanted[place][output], abs=3 * weight * spread)


@pytest.mark.parametrize("name", NAMES)
def test_a_value_is_null_until_the_window_is_full(name: str) -> None:
    indicator = parse(name)
    window = indicator.window(0.01)
    made = list(values(indicator, window, HISTORY, range(window + 1)))
    assert [all(value is None for value in outputs) for outputs in made] == [True] * (window - 1) + [False] * 2
    assert None not in made[-1]


@pytest.mark.parametrize("name", NAMES)
def test_the_lookback_is_the_librarys(name: str) -> None:
    indicator = parse(name)
    function = abstract.Function(indicator.function.name.upper())  # type: ignore[attr-defined]  # made at run time
    function.parameters = indicator.arguments
    assert function.lookback == indicator.function.lookback(*indicator.parameters)


@pytest.mark.parametrize("name", NAMES)
def test_a_value_depends_on_its_window_alone(name: str) -> None:
    """So a value that is computed again after a restart, or with more history, is the same to the digit."""
    indicator = parse(name)
    window = indicator.window(0.001)
    columns = (HISTORY.times, HISTORY.open, HISTORY.high, HISTORY.low, HISTORY.close, HISTORY.volume)
    [alone] = values(indicator, window, HISTORY, [2500])
    cut = Candles(*(column[2501 - window : 2501] for column in columns))  # type: ignore[arg-type]
    assert list(values(indicator, window, cut, [window - 1])) == [alone]


@pytest.mark.parametrize("name", NAMES)
def test_of_a_market_that_does_not_move_no_value_is_nan(name: str) -> None:
    flat = Candles(HISTORY.times[:600], *([5.0] * 600 for _ in range(5)))
    indicator = parse(name)
    [outputs] = values(indicator, indicator.window(0.01), flat, [599])
    assert all(value is None or value.is_finite() for value in outputs)


def test_a_known_value() -> None:
    closes = [float(number) for number in (1, 2, 3, 4, 10)]
    candles = Candles(HISTORY.times[:5], closes, closes, closes, closes, closes)
    assert list(values(parse("sma_4"), 4, candles, range(2, 5))) == [(None,), (Decimal("2.5"),), (Decimal("4.75"),)]
