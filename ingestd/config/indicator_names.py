"""The technical indicators that can be configured, and their names: `macd_12_26_9`, `bbands_20_2_2`, `rsi_14`.

A name is that of the function and all of its parameters. A stored value's name carries the output, where there are
several, and the timeframe too: `macd_12_26_9.signal@1h`.

An indicator is computed from a *window*: the candles that end with its own. A function with a memory (an exponential
average) starts it anew in each window, so the window is long enough that what it was started with has nearly no weight.
Functions whose value depends on where the history begins (OBV, the accumulation line, the parabolic SAR) are not here.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

_NAME = re.compile(r"([a-z]+(?:_[a-z]+)*)((?:_\d+(?:\.\d+)?)*)")
_LONGEST_PERIOD = 1000
_LARGEST_FACTOR = 100

Formula = Callable[..., int]
Memory = Callable[..., tuple[float, ...]]


def _ema(period: float) -> float:
    """The share of an exponential average that is left of it a candle later."""
    return (period - 1) / (period + 1)


def _wilder(period: float) -> float:
    """The same for Wilder's average."""
    return (period - 1) / period


def _none(*_: float) -> tuple[float, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Function:
    """A function of TA-Lib.

    `inputs`: the candle's fields that it reads. `parameters`: TA-Lib's names of them, in the order of our name; one
    that begins with `nb` is a factor, every other a number of candles. `lookback`: how many candles come before the
    first value, from the parameters. `memory`: for each average with a memory that is fed by the one before, the share
    of it that is left a candle later. `outputs`: their names; one function with one output names none.
    """

    name: str
    inputs: tuple[str, ...]
    parameters: tuple[str, ...]
    lookback: Formula
    memory: Memory = _none
    outputs: tuple[str, ...] = ()


_CLOSE, _RANGE, _BARS = ("close",), ("high", "low"), ("high", "low", "close")
_N = ("timeperiod",)


def _before(candles: int) -> Formula:
    return lambda n: int(n) + candles


FUNCTIONS: dict[str, Function] = {
    function.name: function
    for function in (
        Function("sma", _CLOSE, _N, _before(-1)),
        Function("wma", _CLOSE, _N, _before(-1)),
        Function("trima", _CLOSE, _N, _before(-1)),
        Function("ema", _CLOSE, _N, _before(-1), lambda n: (_ema(n),)),
        Function("dema", _CLOSE, _N, lambda n: 2 * (n - 1), lambda n: (_ema(n),) * 2),
        Function("tema", _CLOSE, _N, lambda n: 3 * (n - 1), lambda n: (_ema(n),) * 3),
        Function("trix", _CLOSE, _N, lambda n: 3 * (n - 1) + 1, lambda n: (_ema(n),) * 3),
        Function("rsi", _CLOSE, _N, _before(0), lambda n: (_wilder(n),)),
        Function("cmo", _CLOSE, _N, _before(0), lambda n: (_wilder(n),)),
        Function("mom", _CLOSE, _N, _before(0)),
        Function("roc", _CLOSE, _N, _before(0)),
        Function("linearreg", _CLOSE, _N, _before(-1)),
        Function("min", _CLOSE, _N, _before(-1)),
        Function("max", _CLOSE, _N, _before(-1)),
        Function("stddev", _CLOSE, ("timeperiod", "nbdev"), lambda n, _: n - 1),
        Function(
            "bbands",
            _CLOSE,
            ("timeperiod", "nbdevup", "nbdevdn"),
            lambda n, _up, _down: n - 1,
            outputs=("upper", "middle", "lower"),
        ),
        Function(
            "macd",
            _CLOSE,
            ("fastperiod", "slowperiod", "signalperiod"),
            lambda fast, slow, signal: max(fast, slow) - 1 + signal - 1,
            lambda fast, slow, signal: (_ema(max(fast, slow)), _ema(signal)),
            outputs=("macd", "signal", "hist"),
        ),
        Function(
            "stochrsi",
            _CLOSE,
            ("timeperiod", "fastk_period", "fastd_period"),
            lambda n, k, d: n + k - 1 + d - 1,
            lambda n, _k, _d: (_wilder(n),),
            outputs=("fastk", "fastd"),
        ),
        Function("midprice", _RANGE, _N, _before(-1)),
        Function("aroon", _RANGE, _N, _before(0), outputs=("down", "up")),
        Function("aroonosc", _RANGE, _N, _before(0)),
        Function("atr", _BARS, _N, _before(0), lambda n: (_wilder(n),)),
        Function("natr", _BARS, _N, _before(0), lambda n: (_wilder(n),)),
        Function("plus_di", _BARS, _N, _before(0), lambda n: (_wilder(n),)),
        Function("minus_di", _BARS, _N, _before(0), lambda n: (_wilder(n),)),
        Function("adx", _BARS, _N, lambda n: 2 * n - 1, lambda n: (_wilder(n),) * 2),
        Function("cci", _BARS, _N, _before(-1)),
        Function("willr", _BARS, _N, _before(-1)),
        Function("ultosc", _BARS, ("timeperiod1", "timeperiod2", "timeperiod3"), lambda *n: max(n)),
        Function(
            "stoch",
            _BARS,
            ("fastk_period", "slowk_period", "slowd_period"),
            lambda *n: sum(n) - 3,
            outputs=("slowk", "slowd"),
        ),
        Function("mfi", (*_BARS, "volume"), _N, _before(0)),
    )
}


@dataclass(frozen=True, slots=True)
class Indicator:
    """A function with its parameters, in the order of the function's."""

    function: Function
    parameters: tuple[float, ...]

    @property
    def name(self) -> str:
        return "_".join((self.function.name, *(f"{number:g}" for number in self.parameters)))

    def names(self, timeframe: str) -> tuple[str, ...]:
        """The names under which its values of this timeframe are stored, in the order of the outputs."""
        return tuple(
            f"{self.name}.{output}@{timeframe}" if output else f"{self.name}@{timeframe}"
            for output in self.function.outputs or ("",)
        )

    @property
    def arguments(self) -> dict[str, float]:
        """The parameters by TA-Lib's names: whole numbers as such."""
        pairs = zip(self.function.parameters, self.parameters, strict=True)
        return {name: number if _is_factor(name) else int(number) for name, number in pairs}

    def window(self, seed_weight: float) -> int:
        """From how many candles a value is computed: those that the function needs, and of each of its averages with a
        memory as many as reduce the weight of the value with which it begins to `seed_weight`."""
        settling = (
            math.ceil(math.log(seed_weight) / math.log(left)) for left in self.function.memory(*self.parameters)
        )
        return int(self.function.lookback(*self.parameters)) + 1 + sum(settling)


def parse(name: str) -> Indicator:
    """The indicator of this name. Raises ValueError, which says what is wrong with it."""
    match = _NAME.fullmatch(name)
    function = FUNCTIONS.get(match[1]) if match is not None else None
    if match is None or function is None:
        raise ValueError(_unknown(name, match[1] if match is not None else name))
    numbers = [float(text) for text in match[2].split("_")[1:]]
    if len(numbers) != len(function.parameters):
        wanted = "_".join((function.name, *(f"<{parameter}>" for parameter in function.parameters)))
        raise ValueError(f"has {len(numbers)} parameters, and {function.name} has {len(function.parameters)}: {wanted}")
    for parameter, number in zip(function.parameters, numbers, strict=True):
        if _is_factor(parameter):
            if not 0 < number <= _LARGEST_FACTOR:
                raise ValueError(f"its {parameter} must be more than 0 and at most {_LARGEST_FACTOR}")
        elif number != int(number) or not _shortest(function) <= number <= _LONGEST_PERIOD:
            raise ValueError(f"its {parameter} must be a whole number, {_shortest(function)} to {_LONGEST_PERIOD}")
    return Indicator(function, tuple(numbers))


def _is_factor(parameter: str) -> bool:
    return parameter.startswith("nb")


def _shortest(function: Function) -> int:
    """The shortest period: smoothing over one candle is allowed where it is one step of several."""
    return 1 if function.name in ("stoch", "stochrsi", "mom", "roc") else 2


def _unknown(name: str, function: str) -> str:
    close = difflib.get_close_matches(function, list(FUNCTIONS), n=1, cutoff=0.5)
    if close:
        parameters = "_".join((close[0], *(f"<{parameter}>" for parameter in FUNCTIONS[close[0]].parameters)))
        return f"{name!r} is no indicator; did you mean {parameters}?"
    return f"{name!r} is no indicator, such as rsi_14 or macd_12_26_9; there are {', '.join(FUNCTIONS)}"
