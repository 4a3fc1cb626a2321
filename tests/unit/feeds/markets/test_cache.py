"""A venue's markets on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from structlog.testing import capture_logs

from ingestd.clock import now_us
from ingestd.feeds.markets import cache as market_cache
from ingestd.feeds.markets.cache import FRESH_FOR_S, MarketCache
from ingestd.venues.exact import ExactFloat, decimal_text
from tests.unit.feeds.doubles import feed_config

MARKET: dict[str, Any] = {
    "symbol": "BTC/USDT",
    "id": "BTCUSDT",
    "active": True,
    "precision": {"price": ExactFloat("0.010"), "amount": 0.001},
    "limits": {"amount": {"min": ExactFloat(".5"), "max": None}},
    "info": {"filters": ["a", 1]},
}


def cache(state_dir: Path, **changes: Any) -> MarketCache:
    return MarketCache(state_dir, feed_config("binance", ["*"], **changes))


def test_what_was_written_is_read_with_its_texts(tmp_path: Path) -> None:
    cache(tmp_path).write([MARKET])

    kept = cache(tmp_path)
    markets = kept.read()

    assert markets is not None
    (market,) = markets
    assert market == {**MARKET, "precision": {"price": 0.01, "amount": 0.001}}
    assert decimal_text(market["precision"]["price"]) == "0.010"
    assert kept.loaded_at > 0


def test_there_is_none_at_first(tmp_path: Path) -> None:
    assert cache(tmp_path).read() is None


def test_another_configuration_has_another_file(tmp_path: Path) -> None:
    cache(tmp_path).write([MARKET])

    assert cache(tmp_path, url_map={"https://api.binance.com": "http://127.0.0.1:1"}).read() is None
    assert cache(tmp_path, channels=["trades"]).read() is not None


def test_what_is_old_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache(tmp_path).write([MARKET])
    now = now_us()
    monkeypatch.setattr(market_cache, "now_us", lambda: now + int((FRESH_FOR_S - 60) * 1e6))
    assert cache(tmp_path).read() is not None

    monkeypatch.setattr(market_cache, "now_us", lambda: now + int((FRESH_FOR_S + 60) * 1e6))
    assert cache(tmp_path).read() is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"version":1,"loaded_at":1,"markets":[7]}',
        b'{"version":1,"markets":[{"symbol":"A/B"}]}',
        b'{"version":2,"loaded_at":1,"markets":[]}',
        b"\xff\xfe",
    ],
)
def test_what_is_damaged_is_not_used(tmp_path: Path, content: bytes) -> None:
    kept = cache(tmp_path)
    kept.write([MARKET])
    kept.path.write_bytes(content)

    assert cache(tmp_path).read() is None


def test_no_markets_are_no_cache(tmp_path: Path) -> None:
    cache(tmp_path).write([])

    assert cache(tmp_path).read() is None


def test_a_disk_that_refuses_costs_nothing(tmp_path: Path) -> None:
    in_the_way = tmp_path / "markets"
    in_the_way.write_text("a file")

    cache(tmp_path).write([MARKET])

    assert cache(tmp_path).read() is None


def test_the_file_is_json_that_others_can_read(tmp_path: Path) -> None:
    kept = cache(tmp_path)
    kept.write([MARKET])

    document = json.loads(kept.path.read_text())

    assert document["version"] == 1
    assert document["markets"][0]["symbol"] == "BTC/USDT"


def test_two_feeds_of_one_exchange_do_not_take_each_others_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share the list: the one is about to put its file in place while the other writes its own."""
    one, other = cache(tmp_path), cache(tmp_path)
    replace = os.replace
    second = Thread(target=other.write, args=([{**MARKET, "symbol": "ETH/USDT"}],))

    def late(*paths: Any) -> None:
        monkeypatch.setattr(os, "replace", replace)
        second.start()
        second.join(0.05)  # it waits for the first
        (market,) = cache(tmp_path).read() or [MARKET]
        assert market["symbol"] == "BTC/USDT"
        replace(*paths)

    monkeypatch.setattr(os, "replace", late)
    with capture_logs() as logs:
        one.write([MARKET])
        second.join(5)
    assert logs == []
    (market,) = cache(tmp_path).read() or []
    assert market["symbol"] == "ETH/USDT"
