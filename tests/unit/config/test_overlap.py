"""Two feeds that would store one stream twice are a mistake of the configuration."""

from __future__ import annotations

import itertools
import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ingestd.cli.check import check
from ingestd.config.overlap import may_be_one


def checked(folder: Path, *feeds: dict[str, Any]) -> dict[str, Any]:
    """What `ingestd check --json` says of these feeds; its exit code goes with it."""
    lines = ['[database]\ndsn = "postgresql://u@h/db"']
    for feed in feeds:
        named = {"exchange": "binance", "channels": ["trades"], **feed}
        lines += ["[[feeds]]", *(f"{key} = {_toml(value)}" for key, value in named.items())]
    file = folder / "ingestd.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    result = CliRunner().invoke(check, ["-c", str(file), "--json"])
    said: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    assert result.exit_code == (0 if said["ok"] else 2)
    return said


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(of_it)}" for key, of_it in value.items()) + " }"
    return json.dumps(value)


TRADES = {"watchTradesForSymbols": {"name": "aggTrade"}}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"symbols": ["BTC/USDT"]}, {"symbols": ["BTC/USDT"]}),
        ({"symbols": ["BTC/USDT", "ETH/USDT"]}, {"symbols": ["SOL/USDT", "ETH/USDT"]}),
        ({"symbols": ["*/USDT"]}, {"symbols": ["*/USDT"]}),
        ({"symbols": ["*/USDT"]}, {"symbols": ["BTC/USDT"]}),
        ({"symbols": ["BTC/USDT"]}, {"symbols": ["*/USDT"]}),
        ({"symbols": ["*/USDT"]}, {"symbols": ["BTC/*"]}),
        ({"symbols": ["BTC/USDT"]}, {"symbols": ["BTC/USDT"], "channels": ["ticks", "trades"]}),
        # The ids of the two are two series, which one table would hold under one name.
        ({"symbols": ["BTC/USDT"]}, {"symbols": ["BTC/USDT"], "options": TRADES}),
        ({"symbols": ["BTC/USDT"]}, {"symbols": ["BTC/USDT"], "decoder": "ccxt"}),
        ({"symbols": ["BTC/USDT"]}, {"symbols": ["BTC/USDT"], "url_map": {"wss://a": "ws://b"}}),
        (
            {"symbols": ["BTC/USDT"], "channels": ["candles"]},
            {"symbols": ["BTC/USDT"], "channels": ["candles"], "stale_after_s": 9},
        ),
    ],
)
def test_what_would_be_stored_twice_is_refused(tmp_path: Path, one: dict[str, Any], other: dict[str, Any]) -> None:
    said = checked(tmp_path, one, other)
    (problem,) = said["problems"]
    assert problem["path"] == "feeds[1].symbols"
    assert "feeds[0] follows the same" in problem["message"]
    assert "/" in problem["value"]


def test_a_symbols_file_counts_like_the_list(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("SOL/USDT\nBTC/USDT  # the largest\n", encoding="utf-8")
    said = checked(tmp_path, {"symbols": ["BTC/USDT"]}, {"symbols_file": "more.txt"})
    (problem,) = said["problems"]
    assert problem["value"] == "BTC/USDT"


def test_every_pair_of_feeds_is_named(tmp_path: Path) -> None:
    said = checked(tmp_path, *[{"symbols": [f"S{number}/USDT" for number in range(9)]}] * 3)
    paths = [problem["path"] for problem in said["problems"]]
    assert paths == ["feeds[1].symbols", "feeds[2].symbols", "feeds[2].symbols"]
    assert said["problems"][0]["value"] == "S0/USDT, S1/USDT, S2/USDT and 6 more"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"symbols": ["BTC/USDT"]}, {"symbols": ["ETH/USDT"]}),
        ({"symbols": ["BTC/USDT"]}, {"symbols": ["BTC/USDT"], "exchange": "binanceus"}),
        ({"symbols": ["BTC/USDT"]}, {"symbols": ["BTC/USDT"], "channels": ["ticks", "order_book"]}),
        ({"symbols": ["*/USDT"]}, {"symbols": ["*/USDC", "*/USDT:USDT", "BTC/EUR"]}),
        ({"symbols": ["BTC/USDT", "BTC/USDT"]}, {"symbols": ["ETH/USDT"]}),
        (
            {"symbols": ["BTC/USDT"], "channels": ["candles"]},
            {"symbols": ["BTC/USDT"], "channels": ["candles"], "candle_timeframe": "1h"},
        ),
    ],
)
def test_feeds_that_share_no_stream_are_right(tmp_path: Path, one: dict[str, Any], other: dict[str, Any]) -> None:
    assert checked(tmp_path, one, other)["ok"]


@pytest.mark.parametrize("timeframe", ["7q", "60m", "1H", "minute"])
def test_candles_that_the_venue_does_not_have_are_refused(tmp_path: Path, timeframe: str) -> None:
    """Of two names for one hour the venue has one, so it is not followed twice:
    https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams"""
    one = {"symbols": ["BTC/USDT"], "channels": ["candles"], "candle_timeframe": "1h"}
    said = checked(tmp_path, one, {**one, "candle_timeframe": timeframe})
    (problem,) = said["problems"]
    assert problem["path"] == "feeds[1].candle_timeframe"
    assert "1h" in problem["hint"]
    assert checked(tmp_path, one, {**one, "channels": ["trades"], "candle_timeframe": timeframe})["ok"]


TEXTS = ["".join(text) for length in range(7) for text in itertools.product("ab", repeat=length)]
PATTERNS = st.lists(st.sampled_from(["a", "b", "*", "?", "[ab]", "[!a]", "[a]"]), max_size=4).map("".join)


@given(PATTERNS, PATTERNS)
def test_two_patterns_meet_where_some_text_matches_both(one: str, other: str) -> None:
    """Of so few tokens a text of six characters is enough, or there is none."""
    both = any(fnmatchcase(text, one) and fnmatchcase(text, other) for text in TEXTS)
    # `[!a]` also meets itself in a character that is neither.
    assert may_be_one(one, other) == both or "[!" in one + other
    assert may_be_one(one, other) >= both
