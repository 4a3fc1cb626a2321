"""Servers and intervals that a venue names in a reply: KuCoin's `bullet-public`, the one that ccxt believes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from ingestd.config.models import FeedConfig
from ingestd.feeds.ccxt.venue_hosts import why_not_the_venues
from ingestd.records import Trade
from tests.support.small_venue import FakeVenue, RunningFeed

SYMBOLS = [
    {
        "symbol": "BTC-USDT",
        "name": "BTC-USDT",
        "baseCurrency": "BTC",
        "quoteCurrency": "USDT",
        "feeCurrency": "USDT",
        "market": "USDS",
        "baseMinSize": "0.00001",
        "quoteMinSize": "0.01",
        "baseMaxSize": "10000000000",
        "quoteMaxSize": "99999999",
        "baseIncrement": "0.00000001",
        "quoteIncrement": "0.000001",
        "priceIncrement": "0.000001",
        "priceLimitRate": "0.1",
        "isMarginEnabled": False,
        "enableTrading": True,
    }
]
TRADE = {
    "type": "message",
    "topic": "/market/match:BTC-USDT",
    "subject": "trade.l3match",
    "data": {
        "type": "match",
        "symbol": "BTC-USDT",
        "side": "buy",
        "price": "1.7",
        "size": "0.1",
        "tradeId": "7",
        "sequence": "7",
        "time": "1700000000000000000",
    },
}


class KuCoin:
    """https://www.kucoin.com/docs-new/websocket-api/base-info/introduction. `servers`: what it names, one a request."""

    def __init__(self) -> None:
        self.servers: list[dict[str, Any]] = []
        self.pings = 0
        self.venue = FakeVenue(self._rest, self._answer)

    def config(self) -> FeedConfig:
        address = self.venue.address
        url_map = {
            "https://api.kucoin.com": f"http://{address}",
            "wss://ws-api-spot.kucoin.com": f"ws://{address}",
        }
        return FeedConfig(
            exchange="kucoin",
            symbols=["BTC/USDT"],
            channels=["trades"],
            url_map=url_map,
            options={"fetchMarkets": {"types": ["spot"]}},
        )

    def _rest(self, path: str, _query: dict[str, str]) -> Any:
        if path == "/api/v1/bullet-public":
            sound = {"endpoint": "wss://ws-api-spot.kucoin.com/", "pingInterval": 50000, "pingTimeout": 10000}
            server = {**sound, **(self.servers.pop(0) if self.servers else {})}
            return {"code": "200000", "data": {"token": "secret", "instanceServers": [server]}}
        return {"code": "200000", "data": SYMBOLS if path.endswith("/symbols") else []}

    def _answer(self, _path: str, asked: Any) -> list[Any]:
        if asked["type"] == "ping":
            self.pings += 1
            return [{"id": asked["id"], "type": "pong"}]
        return [{"id": asked["id"], "type": "ack"}, TRADE]


@pytest.fixture
async def kucoin() -> AsyncIterator[KuCoin]:
    made = KuCoin()
    async with made.venue:
        yield made


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_socket_is_opened_to_no_server_of_somebody_else(kucoin: KuCoin, scheme: str) -> None:
    came: list[object] = []

    async def took(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(writer)
        writer.close()

    stranger = await asyncio.start_server(took, "127.0.0.1", 0)
    elsewhere = f"{scheme}://127.0.0.1:{stranger.sockets[0].getsockname()[1]}/endpoint"
    kucoin.servers.append({"endpoint": elsewhere})
    with capture_logs() as logs:
        async with RunningFeed(kucoin.config(), "ccxt") as running:
            await running.until(lambda: running.intake.of(Trade))  # of the server that it names next

    (reason,) = [line["error"] for line in logs if line["event"] == "resubscribing"]
    assert f"{elsewhere} was named as the server of its streams: refused" in reason
    assert "url_map" in reason
    assert "secret" not in reason
    assert came == []
    stranger.close()


@pytest.mark.parametrize("asked_ms", [-5, 0, 1, "x", None, 10**18])
async def test_pings_are_sent_at_a_rate_of_ours(kucoin: KuCoin, asked_ms: Any) -> None:
    """No flood of them and, unless it wants them seldom, not none."""
    kucoin.servers.append({"pingInterval": asked_ms})
    async with RunningFeed(kucoin.config(), "ccxt") as running:
        await running.until(lambda: running.intake.of(Trade))
        if asked_ms in (-5, 0, 1):
            await running.until(lambda: kucoin.pings)
        assert kucoin.pings <= 1


@pytest.mark.parametrize(
    ("named", "is_theirs"),
    [
        ("wss://ws-api-spot.kucoin.com/?token=t", True),
        ("wss://ws-new-one.kucoin.com/endpoint", True),
        ("wss://push.kucoin.com:8443/endpoint", True),
        ("ws://ws-api-spot.kucoin.com/", False),
        ("wss://kucoin.com.thief.example/", False),
        ("wss://ws-api-spot.kucoin.com@thief.example/", False),
        ("wss://notkucoin.com/", False),
        ("wss://169.254.169.254/latest", False),
        ("wss://[::1]/", False),
        ("wss://[::1/", False),
        ("", False),
    ],
)
def test_whose_a_server_is(named: str, is_theirs: bool) -> None:
    ours = ["https://api.kucoin.com", "https://api-futures.kucoin.com"]
    assert (why_not_the_venues(named, named, ours, {}) is None) is is_theirs


def test_owners_beneath_a_shared_name_are_told_apart() -> None:
    ours = ["https://api.venue.co.jp"]
    assert why_not_the_venues("wss://ws.venue.co.jp/", "wss://ws.venue.co.jp/", ours, {}) is None
    assert why_not_the_venues("wss://thief.co.jp/", "wss://thief.co.jp/", ours, {}) is not None
