"""The section `[indicators]`: which technical indicators are computed of which markets."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ingestd.config import indicator_names
from ingestd.config.indicator_names import Indicator
from ingestd.config.section import Section

Timeframe = Literal["1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w", "1M"]

PER_DAY: dict[str, float] = {
    "1m": 1440, "5m": 288, "15m": 96, "30m": 48, "1h": 24, "4h": 6, "1d": 1, "1w": 1 / 7, "1M": 1 / 31,
}  # fmt: skip
"""How many candles of a timeframe a day has."""

LONGEST_WINDOW = 20_000


def _known_name(name: str) -> str:
    return indicator_names.parse(name).name


class IndicatorRule(Section):
    """These indicators, of these timeframes, of the markets that match one of `symbols` and one of `exchanges`."""

    names: Annotated[list[Annotated[str, AfterValidator(_known_name)]], Field(min_length=1)]
    timeframes: Annotated[list[Timeframe], Field(min_length=1)]
    symbols: Annotated[list[str], Field(min_length=1)] = ["*"]
    exchanges: Annotated[list[str], Field(min_length=1)] = ["*"]

    def covers(self, exchange: str, symbol: str) -> bool:
        """Whether the market with this unified symbol is one of them."""
        return _matches(exchange, self.exchanges) and _matches(symbol, self.symbols)


class IndicatorsConfig(Section):
    rules: list[IndicatorRule] = []
    seed_weight: Annotated[float, Field(ge=1e-12, le=0.5)] = 0.0001
    history_candles: Annotated[int, Field(ge=1, le=10_000)] = 300

    def wanted(self, exchange: str, symbol: str, timeframe: str) -> list[Indicator]:
        """The indicators of this market and timeframe, each once."""
        names = dict.fromkeys(
            name
            for rule in self.rules
            if timeframe in rule.timeframes and rule.covers(exchange, symbol)
            for name in rule.names
        )
        return [indicator_names.parse(name) for name in names]

    @property
    def timeframes(self) -> list[str]:
        """The timeframes that any rule names, the shortest first."""
        named = {timeframe for rule in self.rules for timeframe in rule.timeframes}
        return [timeframe for timeframe in PER_DAY if timeframe in named]

    def windows(self) -> Iterator[tuple[str, str, str, int]]:
        """For each name and timeframe of the rules: its key path, the name, the timeframe and the window in candles."""
        for number, rule in enumerate(self.rules):
            for place, name in enumerate(rule.names):
                window = indicator_names.parse(name).window(self.seed_weight)
                for timeframe in rule.timeframes:
                    yield f"indicators.rules[{number}].names[{place}]", name, timeframe, window


def _matches(text: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)
