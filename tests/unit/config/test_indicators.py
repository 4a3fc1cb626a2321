"""Names of indicators, and the mistakes in `[indicators]`."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ingestd.config.indicator_names import parse
from ingestd.config.loading import parse as parse_document
from ingestd.config.models import Config
from ingestd.config.runnable import what_is_lacking
from ingestd.errors import ConfigError

DATABASE = {"dsn": "postgresql://u@h/db"}
FEED = {"exchange": "binance", "symbols": ["BTC/USDT"]}


def config_with(*rules: dict[str, Any], **sections: Any) -> Config:
    document: dict[str, Any] = {"database": DATABASE, "feeds": [FEED], "indicators": {"rules": list(rules)}}
    return parse_document({**document, **sections}, {})


def mistakes(*rules: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config_with(*rules)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("rsi_14", ("rsi_14@1h",)),
        ("macd_12_26_9", ("macd_12_26_9.macd@1h", "macd_12_26_9.signal@1h", "macd_12_26_9.hist@1h")),
        ("bbands_20_2_2.5", ("bbands_20_2_2.5.upper@1h", "bbands_20_2_2.5.middle@1h", "bbands_20_2_2.5.lower@1h")),
        ("plus_di_14", ("plus_di_14@1h",)),
        ("stddev_020_1.50", ("stddev_20_1.5@1h",)),
    ],
)
def test_a_stored_name_carries_parameters_output_and_timeframe(name: str, names: tuple[str, ...]) -> None:
    assert parse(name).names("1h") == names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rsi", "has 0 parameters, and rsi has 1: rsi_<timeperiod>"),
        ("macd_12_26", "macd has 3: macd_<fastperiod>_<slowperiod>_<signalperiod>"),
        ("rsy_14", "'rsy_14' is no indicator; did you mean rsi_<timeperiod>?"),
        ("obv", "'obv' is no indicator"),
        ("ema_1", "its timeperiod must be a whole number, 2 to 1000"),
        ("ema_2.5", "its timeperiod must be a whole number, 2 to 1000"),
        ("ema_1001", "its timeperiod must be a whole number, 2 to 1000"),
        ("bbands_20_0_2", "its nbdevup must be more than 0"),
        ("RSI_14", "'RSI_14' is no indicator"),
        ("rsi_14@1h", "'rsi_14@1h' is no indicator"),
        ("rsi__14", "'rsi__14' is no indicator"),
        ("", "'' is no indicator"),
    ],
)
def test_a_wrong_name_is_explained(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(name)
    rule = {"names": ["sma_20", name], "timeframes": ["1h"]}
    [problem] = mistakes(rule)
    assert problem.startswith("indicators.rules[0].names[1]")
    assert message in problem


def test_a_wrong_timeframe_is_explained() -> None:
    [problem] = mistakes({"names": ["sma_20"], "timeframes": ["2h"]})
    assert "indicators.rules[0].timeframes[0]" in problem


@pytest.mark.parametrize(
    ("name", "weight", "window"),
    [
        ("sma_20", 0.0001, 20),
        ("macd_12_26_9", 0.5, 34 + 10 + 4),  # (25/27)^10 = 0.46, (8/10)^4 = 0.41
        ("rsi_14", 0.01, 15 + 63),  # (13/14)^63 = 0.0094
        ("adx_14", 0.01, 28 + 2 * 63),
        ("mom_10", 0.01, 11),
    ],
)
def test_the_window_is_what_the_function_needs_and_the_settling_of_its_averages(
    name: str, weight: float, window: int
) -> None:
    assert parse(name).window(weight) == window


def test_rules_choose_markets_and_timeframes_by_patterns() -> None:
    config = config_with(
        {"names": ["rsi_14", "sma_20"], "timeframes": ["1h", "1m"], "symbols": ["*/USDT"], "exchanges": ["binance"]},
        {"names": ["sma_20", "sma_50"], "timeframes": ["1h", "1M"]},
    ).indicators

    def wanted(*series: str) -> list[str]:
        return [indicator.name for indicator in config.wanted(*series)]

    assert wanted("binance", "BTC/USDT", "1h") == ["rsi_14", "sma_20", "sma_50"]
    assert wanted("binance", "BTC/USDT", "1m") == ["rsi_14", "sma_20"]
    assert wanted("binance", "BTC/USDT:USDT", "1m") == []
    assert wanted("kraken", "BTC/USDT", "1h") == ["sma_20", "sma_50"]
    assert config.timeframes == ["1m", "1h", "1M"]


def test_an_indicator_that_could_never_have_a_value_is_refused() -> None:
    rule = {"names": ["sma_20", "sma_60"], "timeframes": ["1d", "1w"]}
    retention = {"candles_1d_days": 59, "candles_1w_days": 3650}
    [problem] = what_is_lacking(config_with(rule, retention=retention))
    assert str(problem).startswith("indicators.rules[0].names[1]")
    assert "sma_60@1d needs 60 candles, and retention.candles_1d_days keeps 59" in str(problem)
    assert what_is_lacking(config_with(rule, retention={**retention, "candles_1d_days": 0})) == []


def test_indicators_need_a_database_and_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = {"names": ["sma_20"], "timeframes": ["1d"]}
    assert what_is_lacking(config_with(rule)) == []
    monkeypatch.setattr("ingestd.config.runnable.find_spec", lambda _: None)
    [problem] = what_is_lacking(config_with(rule))
    assert "pip install 'ingestd[indicators]'" in str(problem)
    assert what_is_lacking(config_with(rule, instance={"role": "feed"}, kafka={})) == []
    monkeypatch.undo()
    [problem] = what_is_lacking(config_with(rule, database=None, kafka={}))
    assert "needs [database]" in str(problem)
