"""Raw frames through the real client of each venue: every update, in order, with the venue's own text."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Callable

import pytest

from ingestd.feeds.ccxt.channels import method_for, ticks_from_tickers
from ingestd.lab.sim.venue_frames import BURST, VENUES, Venue, numbered
from ingestd.records import BookSnapshot, Tick, Trade
from tests.support.venue_frames import KEYS, TICKS, text_of
from tests.unit.feeds.doubles import Wire


@pytest.fixture(params=VENUES, ids=lambda venue: venue.exchange)
def venue(request: pytest.FixtureRequest) -> Venue:
    found: Venue = request.param
    return found


@pytest.fixture
async def wire(venue: Venue) -> AsyncIterator[Wire]:
    made = Wire(venue.exchange, {venue.symbol: venue.market_id}, venue.url)
    method = method_for("ticks", made.exchange.id, made.exchange.has)
    assert method is not None
    made.reader.ticks_from_tickers = ticks_from_tickers(venue.exchange, method)
    yield made
    await made.close()


async def test_a_burst_of_trades_is_complete_ordered_and_exact(venue: Venue, wire: Wire) -> None:
    frames, keys = numbered(venue.trade), KEYS[venue.exchange]

    wire.frames(*frames)

    trades = wire.intake.of(Trade)
    assert len(trades) == BURST
    assert [int(trade.trade_id.rpartition("-")[2]) for trade in trades] == list(range(1, BURST + 1))
    assert {(trade.price, trade.quantity) for trade in trades} == {
        (text_of(venue.trade, keys.price), text_of(venue.trade, keys.size))
    }
    assert all(before.seq < after.seq for before, after in itertools.pairwise(trades))
    assert len(wire.exchange.trades[venue.symbol]) <= 16  # ccxt's own cache stays small
    assert wire.ledger.counts.malformed_frames == 0


async def test_a_burst_of_ticks_is_complete_and_exact(venue: Venue, wire: Wire) -> None:
    frame, keys = TICKS[venue.exchange], KEYS[venue.exchange]
    wire.frames(*numbered(frame))

    ticks = wire.intake.of(Tick)
    assert len(ticks) == BURST
    expected = ("27450.00", "0.500")
    if keys.bid:
        expected = (text_of(frame, keys.bid), text_of(frame, keys.bid_size))
    assert {(tick.bid_price, tick.bid_volume) for tick in ticks} == {expected}


async def test_a_malformed_frame_is_counted_and_the_next_is_processed(venue: Venue, wire: Wire) -> None:
    good = numbered(venue.trade, 2)

    wire.frames(good[0], '{"truncated": [1.5, ', good[1])

    assert len(wire.intake.of(Trade)) == 2
    assert wire.ledger.counts.malformed_frames == 1


@pytest.mark.parametrize("frame", ["}{", "\x7f\x01garbage{{", "[1,2", "{", '{"e":"trade","E":1790000000', "] no"])
async def test_what_is_neither_json_nor_a_word_is_malformed(venue: Venue, wire: Wire, frame: str) -> None:
    wire.frames(frame, *numbered(venue.trade, 1))

    assert wire.ledger.counts.malformed_frames == 1
    assert len(wire.intake.of(Trade)) == 1


async def test_words_are_not_malformed(venue: Venue, wire: Wire) -> None:
    wire.frames("pong", "Ping", "")

    assert wire.ledger.counts.malformed_frames == 0


async def test_an_error_in_the_venues_code_costs_only_its_frame(venue: Venue, wire: Wire) -> None:
    good = numbered(venue.trade, 2)
    real: Callable[..., None] = wire.client.on_message_callback

    def broken_for_one(client: object, message: object) -> None:
        if "boom" in json.dumps(message, default=str):
            raise KeyError("boom")
        real(client, message)

    wire.client.on_message_callback = broken_for_one
    wire.frames(good[0], '{"boom": 1}', good[1])

    assert len(wire.intake.of(Trade)) == 2
    assert wire.ledger.counts.malformed_frames == 1


async def test_every_record_of_a_frame_has_the_time_of_its_frame(venue: Venue, wire: Wire) -> None:
    wire.frames(*numbered(venue.trade, 3))

    arrivals = [trade.received_at for trade in wire.intake.of(Trade)]
    assert arrivals == sorted(arrivals)


async def test_several_symbols_withhold_nothing() -> None:
    symbols = {"BTC/USDT": "BTCUSDT", "ETH/USDT": "ETHUSDT", "SOL/USDT": "SOLUSDT"}
    wire = Wire("binance", symbols, "wss://stream.binance.com:9443/ws/0")
    frame = VENUES[0].trade
    frames = [frame.replace("BTCUSDT", market_id).replace("{n}", "7") for market_id in symbols.values()]

    wire.frames(*frames)

    assert [trade.symbol for trade in wire.intake.of(Trade)] == list(symbols)
    await wire.close()


async def test_a_symbol_nobody_asked_for_is_counted_not_delivered() -> None:
    wire = Wire("binance", {"BTC/USDT": "BTCUSDT"}, "wss://stream.binance.com:9443/ws/0")
    wire.ledger.streams["trades"].clear()

    wire.frames(*numbered(VENUES[0].trade, 3))

    assert wire.intake.records == []
    assert wire.ledger.counts.unrequested_records == 3
    await wire.close()


async def test_a_book_that_is_being_rebuilt_is_not_sampled() -> None:
    wire = Wire("binance", {"BTC/USDT": "BTCUSDT"}, "wss://stream.binance.com:9443/ws/0")
    delta = (
        '{"e":"depthUpdate","E":1672515782136,"s":"BTCUSDT","U":{n},"u":{n},"b":[["0.0024000","10.50"]],'
        '"a":[["0.0026","100"]]}'
    )
    book = wire.exchange.orderbooks["BTC/USDT"] = wire.exchange.order_book({})
    wire.frames(*[delta.replace("{n}", str(number)) for number in range(101, 105)])
    wire.recorder.sample_books()
    assert wire.intake.of(BookSnapshot) == []  # its snapshot has not come: the changes wait

    book.reset({"symbol": "BTC/USDT", "nonce": 104, "bids": [[0.0023, 1.0]], "asks": [[0.0027, 1.0]]})
    wire.frames(delta.replace("{n}", "105"))
    wire.recorder.sample_books()

    (snapshot,) = wire.intake.of(BookSnapshot)
    assert snapshot.bids[0] == ("0.0024000", "10.50")
    assert (snapshot.sequence, snapshot.valid) == (105, True)
    await wire.close()


async def test_book_sides_that_negate_prices_work_with_exact_numbers() -> None:
    wire = Wire("gemini", {"BTC/USD": "btcusd"}, "wss://api.gemini.com/v2/marketdata/BTCUSD")
    wire.frames(
        '{"type":"l2_updates","symbol":"BTCUSD","changes":[["buy","22252.370","0.0200"],["buy","22251.6","0.04"],'
        '["sell","22254.0","0.10"]],"trades":[]}'
    )
    wire.recorder.sample_books()

    (snapshot,) = wire.intake.of(BookSnapshot)
    assert snapshot.bids == (("22252.370", "0.0200"), ("22251.6", "0.04"))
    await wire.close()


async def test_books_of_json_numbers_keep_their_text() -> None:
    wire = Wire("krakenfutures", {"BTC/USD:BTC": "PI_XBTUSD"}, "wss://futures.kraken.com/ws/v1")
    wire.frames(
        '{"feed":"book_snapshot","product_id":"PI_XBTUSD","timestamp":1612269825817,"seq":1,"bids":[{"price":34892.50,'
        '"qty":6385.0}],"asks":[{"price":34911.5,"qty":20598.10}]}',
        '{"feed":"book","product_id":"PI_XBTUSD","side":"sell","seq":2,"price":34910.10,"qty":5.0,'
        '"timestamp":1612269953629}',
    )
    wire.recorder.sample_books()

    (snapshot,) = wire.intake.of(BookSnapshot)
    assert snapshot.bids == (("34892.50", "6385.0"),)
    assert snapshot.asks == (("34910.10", "5.0"), ("34911.5", "20598.10"))
    await wire.close()
