"""The whole ccxt feed against a venue on this machine: sockets that close, fall silent, refuse and come back."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from ingestd.config.models import FeedConfig
from ingestd.errors import ConfigError
from ingestd.feeds.ccxt import subscription
from ingestd.records import FeedGap, OpenInterest, StreamId, Trade
from ingestd.retry import Backoff
from ingestd.status import Earlier
from tests.support.feeds import DECODERS, make_feed
from tests.support.time_limits import limit_s
from tests.unit.feeds.doubles import ListIntake

WITHIN_S = 60.0


class Venue:
    """Speaks enough of Binance USDⓈ-M: exchangeInfo, SUBSCRIBE, one stream of trades per symbol."""

    def __init__(self, decoder: str) -> None:
        self.decoder = decoder
        self.markets = {"BTCUSDT": "BTC", "ETHUSDT": "ETH"}
        self.statuses: dict[str, str] = {}  # of a market that is not TRADING
        self.sockets: list[web.WebSocketResponse] = []
        self.subscribed: list[list[str]] = []
        self.market_status = 200
        self.market_requests = 0
        self.interest_status = 200
        self.interest_instead: dict[str, Any] | None = None
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/fapi/v1/exchangeInfo", self._exchange_info)
        app.router.add_get("/fapi/v1/openInterest", self._open_interest)
        app.router.add_get("/ws/{stream}", self._socket)
        app.router.add_get("/{kind}/ws", self._socket)
        app.router.add_get("/{kind}/ws/{stream}", self._socket)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        for socket in self.sockets:
            await socket.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def send(self, frame: str) -> None:
        """To the newest socket."""
        await self.sockets[-1].send_str(frame)

    async def trade(self, trade_id: int, market_id: str = "BTCUSDT") -> None:
        await self.send(
            f'{{"e":"trade","E":1672515782136,"s":"{market_id}","t":{trade_id},"p":"7.6110","q":"2.000",'
            '"T":1672515782136,"m":false,"X":"MARKET"}'
        )

    async def _exchange_info(self, request: web.Request) -> web.Response:
        self.market_requests += 1
        if self.market_status != 200:
            return web.json_response({"code": -1000, "msg": "unknown"}, status=self.market_status)
        symbols = [
            {
                "symbol": market_id,
                "pair": market_id,
                "contractType": "PERPETUAL",
                "status": self.statuses.get(market_id, "TRADING"),
                "baseAsset": base,
                "quoteAsset": "USDT",
                "marginAsset": "USDT",
                "filters": [{"filterType": "PRICE_FILTER", "tickSize": "0.10", "minPrice": "1", "maxPrice": "9"}],
            }
            for market_id, base in self.markets.items()
        ]
        return web.json_response({"symbols": symbols})

    async def _open_interest(self, request: web.Request) -> web.Response:
        if request.query["symbol"] == "ETHUSDT":
            return web.json_response({"code": -1121, "msg": "Invalid symbol."}, status=400)
        if self.interest_status != 200:
            return web.json_response({"code": -1000, "msg": "unknown"}, status=self.interest_status)
        if self.interest_instead is not None:
            return web.json_response(self.interest_instead, status=400 if "code" in self.interest_instead else 200)
        return web.json_response({"openInterest": "10659.509", "symbol": "BTCUSDT", "time": 1589437530011})

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                asked = json.loads(message.data)
                await socket.send_json({"result": None, "id": asked["id"]})
                if asked["method"] == "SUBSCRIBE":
                    self.subscribed.append(asked["params"])
                if socket not in self.sockets:
                    self.sockets.append(socket)
        return socket


@pytest.fixture(params=DECODERS)
async def venue(request: pytest.FixtureRequest) -> AsyncIterator[Venue]:
    made = Venue(request.param)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture(autouse=True)
def quick_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for a real backoff; its arithmetic has tests of its own."""

    def quick(**_: Any) -> Backoff:
        return Backoff(base_s=0.001, cap_s=0.005)

    monkeypatch.setattr("ingestd.feeds.native.session.DIALS_AT_ONCE", 1000)
    for module in ("ccxt.feed", "ccxt.market_loader", "native.connection", "native.rebuild_queue"):
        monkeypatch.setattr(f"ingestd.feeds.{module}.Backoff", quick)
    real = subscription.Subscription.__init__
    monkeypatch.setattr(
        subscription.Subscription,
        "__init__",
        lambda self, *a, **k: real(self, *a, **{**k, "backoff": quick}),
    )


class Running:
    """A feed in a task of its own."""

    def __init__(
        self,
        venue: Venue,
        keep: Callable[[str], bool] | None = None,
        earlier: dict[StreamId, Earlier] | None = None,
        state_dir: Path | None = None,
        **changes: Any,
    ) -> None:
        settings: dict[str, Any] = {
            "symbols": ["BTC/USDT:USDT"],
            "channels": ["trades"],
            "options": {"fetchMarkets": {"types": ["linear"]}, "watchTrades": {"name": "trade"}},
            "url_map": {
                "https://fapi.binance.com": f"http://{venue.url}",
                "wss://fstream.binance.com": f"ws://{venue.url}",
            },
        }
        self.intake = ListIntake()
        config = FeedConfig(exchange="binanceusdm", **{**settings, **changes})
        self.feed = make_feed(config, venue.decoder, keep=keep, earlier=earlier, state_dir=state_dir)
        self.task = asyncio.create_task(self.feed.run(self.intake))

    async def until(self, condition: Callable[[], Any]) -> None:
        """Yield to the loop until the condition holds; fails with the feed's own error if it ends first."""
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.002)

    async def close(self) -> None:
        await self.feed.close()
        await self.task


async def test_trades_arrive_and_closing_leaves_nothing_behind(venue: Venue) -> None:
    before = asyncio.all_tasks()
    running = Running(venue)
    await running.until(lambda: venue.sockets)
    await venue.trade(1)
    await venue.send('{"broken')
    await venue.trade(2)
    await running.until(lambda: len(running.intake.of(Trade)) == 2)
    status = running.feed.status()

    await running.close()

    assert [(t.trade_id, t.price, t.quantity) for t in running.intake.of(Trade)] == [
        ("1", "7.6110", "2.000"),
        ("2", "7.6110", "2.000"),
    ]
    assert status.connected
    assert status.problem is None
    assert status.malformed_frames == 1
    assert running.intake.of(FeedGap) == []  # the end was asked for
    assert running.feed.markets()[0].price_precision == "0.10"
    await running.until(lambda: asyncio.all_tasks() - before <= venue_tasks())


def venue_tasks() -> set[asyncio.Task[Any]]:
    """The local server's own."""
    return {task for task in asyncio.all_tasks() if "aiohttp" in repr(task) or "Venue._socket" in repr(task)}


@pytest.mark.parametrize("compressed", [False, True], ids=["11 MiB on the wire", "a bomb of 64 MiB"])
async def test_a_giant_message_costs_its_socket_and_nothing_else(venue: Venue, compressed: bool) -> None:
    """The limit is 10 MiB, whether it comes as it is or unpacks to that: the socket is given up, and dialled again."""
    running = Running(venue)
    await running.until(lambda: venue.sockets)
    await venue.trade(1)
    await running.until(lambda: running.intake.of(Trade))

    giant = " " * ((64 if compressed else 11) * 2**20)
    with contextlib.suppress(ConnectionError):  # the reader hangs up in the middle
        await venue.sockets[-1].send_str(giant, compress=15 if compressed else None)
    await running.until(lambda: len(venue.sockets) == 2)
    await venue.trade(2)
    await running.until(lambda: len(running.intake.of(Trade)) == 2)

    assert [gap.ended_at is None for gap in running.intake.of(FeedGap)] == [True, False]
    await running.close()


async def test_a_closed_socket_is_dialled_again_and_leaves_a_gap(venue: Venue) -> None:
    running = Running(venue)
    await running.until(lambda: venue.sockets)
    await venue.trade(1)
    await running.until(lambda: running.intake.of(Trade))

    await venue.sockets[-1].close()
    await running.until(lambda: len(venue.sockets) == 2)
    await venue.trade(2)
    await running.until(lambda: len(running.intake.of(Trade)) == 2)

    opened, ended = running.intake.of(FeedGap)
    first, second = running.intake.of(Trade)
    assert (opened.time, opened.cause, opened.ended_at) == (first.received_at, "disconnect", None)
    assert (ended.time, ended.ended_at) == (first.received_at, second.received_at)
    assert running.intake.records.index(ended) < running.intake.records.index(second)
    assert running.feed.status().disconnects == 1
    await running.close()


async def test_a_silent_socket_is_dialled_again(venue: Venue) -> None:
    running = Running(venue, stale_after_s=0.2)
    await running.until(lambda: venue.sockets)
    await venue.trade(1)
    await running.until(lambda: running.intake.of(Trade))

    await running.until(lambda: len(venue.sockets) >= 2)  # nothing was closed: only silence

    assert running.feed.status().stale_reconnects >= 1
    assert running.intake.of(FeedGap)[0].cause == "stale"
    await running.close()


async def test_a_full_intake_stops_the_reading_not_the_feed(venue: Venue) -> None:
    running = Running(venue)
    await running.until(lambda: venue.sockets)
    await venue.trade(1)
    await running.until(lambda: running.intake.of(Trade))
    running.intake.room.clear()
    await venue.trade(2)
    await running.until(lambda: len(running.intake.of(Trade)) == 2)  # that read had begun before
    for number in range(3, 200):
        await venue.trade(number)
    for _ in range(50):
        await asyncio.sleep(0)
    blocked_at = len(running.intake.of(Trade))

    running.intake.room.set()
    await running.until(lambda: len(running.intake.of(Trade)) == 199)

    assert blocked_at == 2
    assert [t.seq for t in running.intake.of(Trade)] == list(range(1, 200))
    await running.close()


async def test_an_unknown_symbol_is_reported_and_the_others_run(venue: Venue) -> None:
    running = Running(venue, symbols=["BTC/USDT:USDT", "BTC/USDTT:USDT"])
    await running.until(lambda: venue.sockets)

    reasons = {s.symbol: s.quarantined for s in running.feed.status().streams}

    assert reasons["BTC/USDT:USDT"] is None
    assert "BTC/USDT:USDT" in (reasons["BTC/USDTT:USDT"] or "")
    await running.close()


async def test_no_known_symbol_at_all_is_a_configuration_error(venue: Venue) -> None:
    running = Running(venue, symbols=["DOGE/EUR"])

    with pytest.raises(ConfigError, match="DOGE/EUR"):
        await running.task


async def test_a_venue_that_is_down_is_asked_again(venue: Venue) -> None:
    venue.market_status = 500
    running = Running(venue)
    await running.until(lambda: venue.market_requests >= 3)
    problem = running.feed.status().problem

    venue.market_status = 200
    await running.until(lambda: venue.sockets)

    assert problem is not None
    assert "markets" in problem
    await running.close()


async def test_open_interest_is_polled_and_one_bad_symbol_touches_no_other(
    venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestd.feeds.streams.quarantine.RETRY_S", 0.0)
    running = Running(
        venue, channels=["open_interest"], symbols=["ETH/USDT:USDT", "BTC/USDT:USDT"], poll_interval_s=0.05
    )

    await running.until(lambda: len(running.intake.of(OpenInterest)) >= 2)
    await running.until(lambda: any(s.quarantined for s in running.feed.status().streams))

    streams = {s.symbol: s for s in running.feed.status().streams}
    assert running.intake.of(OpenInterest)[0].open_interest == "10659.509"
    assert streams["ETH/USDT:USDT"].quarantined is not None
    assert streams["BTC/USDT:USDT"].quarantined is None
    await running.close()


async def test_a_poll_that_fails_leaves_a_gap_until_the_next_one_that_does_not(venue: Venue) -> None:
    running = Running(venue, channels=["open_interest"], symbols=["BTC/USDT:USDT"], poll_interval_s=0.02)
    await running.until(lambda: running.intake.of(OpenInterest))
    venue.interest_status = 500
    await running.until(lambda: running.intake.of(FeedGap))
    last = running.intake.of(OpenInterest)[-1]
    venue.interest_status = 200
    await running.until(lambda: len(running.intake.of(FeedGap)) == 2)
    await running.close()

    opened, ended = running.intake.of(FeedGap)
    assert (opened.channel, opened.cause, opened.ended_at) == ("open_interest", "poll_failed", None)
    assert opened.time <= last.received_at
    assert ended.time == opened.time
    assert ended.ended_at is not None


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"symbol": "BTCUSDT", "time": 1589437530011}, id="no value"),
        pytest.param({"code": -1121, "msg": "Invalid symbol."}, id="refused by its name"),
    ],
)
async def test_a_poll_that_is_answered_without_a_value_leaves_a_gap(venue: Venue, answer: dict[str, Any]) -> None:
    running = Running(venue, channels=["open_interest"], symbols=["BTC/USDT:USDT"], poll_interval_s=0.02)
    await running.until(lambda: running.intake.of(OpenInterest))
    venue.interest_instead = answer
    await running.until(lambda: running.intake.of(FeedGap))
    last = running.intake.of(OpenInterest)[-1]
    await running.close()

    (opened,) = running.intake.of(FeedGap)
    assert (opened.channel, opened.cause, opened.ended_at) == ("open_interest", "poll_failed", None)
    assert opened.time <= last.received_at


async def test_closing_while_the_venue_is_down_is_quick(venue: Venue) -> None:
    venue.market_status = 500
    running = Running(venue)
    await running.until(lambda: venue.market_requests >= 1)

    async with asyncio.timeout(limit_s(2)):
        await running.close()


async def test_closing_ends_what_the_venues_code_started(venue: Venue) -> None:
    running = Running(venue, channels=["order_book"], symbols=["*/USDT:USDT"])
    await running.until(lambda: venue.sockets)
    for _ in range(5):  # each asks for snapshots, which wait in the queue of the rate limiter
        dialled = len(venue.sockets)
        await venue.sockets[-1].close()
        await running.until(lambda dialled=dialled: len(venue.sockets) > dialled)  # type: ignore[misc]

    await running.close()

    names = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]  # type: ignore[union-attr]
    assert [name for name in names if "binance" in name or "Throttler" in name or "spawn" in name] == []


async def test_two_symbols_share_a_call(venue: Venue) -> None:
    running = Running(venue, symbols=["*/USDT:USDT"])
    await running.until(lambda: venue.sockets)

    await venue.trade(1, "ETHUSDT")
    await venue.trade(2, "BTCUSDT")
    await running.until(lambda: len(running.intake.of(Trade)) == 2)

    assert venue.subscribed == [["btcusdt@trade", "ethusdt@trade"]]
    await running.close()


async def test_a_shard_takes_only_its_symbols(venue: Venue) -> None:
    running = Running(venue, symbols=["*/USDT:USDT"], keep=lambda symbol: symbol.startswith("ETH"))
    await running.until(lambda: venue.sockets)

    assert venue.subscribed == [["ethusdt@trade"]]
    await running.close()


async def test_symbols_are_added_and_removed_while_it_runs(venue: Venue) -> None:
    running = Running(venue)
    await running.until(lambda: venue.sockets)
    await venue.trade(1)
    await running.until(lambda: running.intake.of(Trade))

    running.feed.set_symbols(["ETH/USDT:USDT"])
    await running.until(lambda: len(venue.subscribed) == 2)
    await venue.trade(2, "BTCUSDT")
    await venue.trade(3, "ETHUSDT")
    await running.until(lambda: len(running.intake.of(Trade)) == 2)

    assert venue.subscribed == [["btcusdt@trade"], ["ethusdt@trade"]]
    assert [trade.symbol for trade in running.intake.of(Trade)] == ["BTC/USDT:USDT", "ETH/USDT:USDT"]
    assert running.intake.of(FeedGap) == []
    assert [stream.symbol for stream in running.feed.status().streams] == ["ETH/USDT:USDT"]
    await running.close()


async def test_a_new_listing_is_followed(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestd.feeds.ccxt.session.RELIST_S", 0.05)
    running = Running(venue, symbols=["*/USDT:USDT"])
    await running.until(lambda: venue.sockets)

    venue.markets["SOLUSDT"] = "SOL"
    await running.until(lambda: len(venue.subscribed) == 2)

    assert venue.subscribed[1] == ["solusdt@trade"]
    await running.close()


async def test_the_channels_of_one_feed_come_by_whichever_way_there_is(venue: Venue) -> None:
    """Trades from a socket, open interest over REST: one feed, one status."""
    running = Running(venue, channels=["trades", "open_interest"], poll_interval_s=0.05)
    await running.until(lambda: venue.sockets)
    await venue.trade(1)
    await running.until(lambda: running.intake.of(Trade) and running.intake.of(OpenInterest))
    status = running.feed.status()

    assert {stream.channel for stream in status.streams} == {"trades", "open_interest"}
    assert (status.connects, status.connected, status.problem) == (1, True, None)
    await running.close()


async def test_what_an_earlier_process_left_is_gone_on_with(venue: Venue) -> None:
    left = Earlier(complete_until=1_672_515_000_000_000, cause="restart", detail="the process before had stopped")
    earlier: dict[StreamId, Earlier] = {("binanceusdm", "trades", "BTC/USDT:USDT"): left}
    running = Running(venue, earlier=earlier)
    await running.until(lambda: venue.sockets)
    await venue.trade(1)
    await running.until(lambda: running.intake.of(Trade))

    opened, ended = running.intake.of(FeedGap)
    assert (opened.time, opened.cause, opened.ended_at) == (left.complete_until, "restart", None)
    assert ended.ended_at is not None
    assert earlier == {}
    await running.close()


@pytest.mark.parametrize("venue", ["native"], indirect=True)
async def test_a_start_with_kept_markets_asks_the_venue_nothing_before_it_subscribes(
    venue: Venue, tmp_path: Path
) -> None:
    running = Running(venue, symbols=["*/USDT:USDT"], state_dir=tmp_path)
    await running.until(lambda: venue.subscribed)
    await running.close()
    asked = venue.market_requests
    venue.market_status = 500
    venue.subscribed.clear()

    running = Running(venue, symbols=["*/USDT:USDT"], state_dir=tmp_path)
    await running.until(lambda: venue.subscribed)

    assert venue.subscribed == [["btcusdt@trade", "ethusdt@trade"]]
    assert venue.market_requests == asked == 1
    assert len(running.feed.markets()) == 2
    await running.close()


@pytest.mark.parametrize("venue", ["native"], indirect=True)
async def test_kept_markets_that_are_an_hour_old_are_loaded_again_after_the_start(
    venue: Venue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Running(venue, symbols=["*/USDT:USDT"], state_dir=tmp_path)
    await running.until(lambda: venue.subscribed)
    await running.close()
    venue.markets["SOLUSDT"] = "SOL"
    venue.subscribed.clear()
    monkeypatch.setattr("ingestd.feeds.ccxt.session.RELIST_S", 0.01)

    running = Running(venue, symbols=["*/USDT:USDT"], state_dir=tmp_path)
    await running.until(lambda: len(venue.subscribed) == 2)

    assert venue.subscribed == [["btcusdt@trade", "ethusdt@trade"], ["solusdt@trade"]]
    await running.close()
