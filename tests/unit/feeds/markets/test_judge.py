"""A market that may be followed is one whose records may be stored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.feeds.markets.judge import why_malformed
from ingestd.validation import TimeWindow, rejection_reason
from tests.support.records import trade

WINDOW = TimeWindow({}, 10**16)


def is_followed(symbol: str) -> bool:
    return why_malformed({"symbol": symbol, "id": "BTCUSDT", "base": "BTC", "quote": "USDT", "spot": True}) is None


@pytest.mark.parametrize(
    "odd", ["\u202e", "\u2066", "\u200b", "\ufeff", "\u00ad", "\u00a0", "\u3000", "\ue000", "\u0378", "\x00", "\n"]
)
def test_a_name_with_characters_that_no_one_sees_is_not_followed(odd: str) -> None:
    assert not is_followed(f"BTC{odd}/USDT")


@pytest.mark.parametrize("name", ["BTC/USDT", "币安人生/USDT", "🚀/USDT", "T GOLD/USDT"])
def test_a_name_in_any_script_is_followed(name: str) -> None:
    assert is_followed(name)


@given(st.text(min_size=1, max_size=12))
def test_the_records_of_a_market_that_is_followed_are_stored(base: str) -> None:
    symbol = f"{base}/USDT"
    if is_followed(symbol):
        assert rejection_reason(trade(1, symbol=symbol), WINDOW) is None
