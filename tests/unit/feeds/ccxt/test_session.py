"""The watch over silent sockets of an exchange object. No network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ingestd.records import FeedGap, Trade
from tests.unit.feeds.doubles import Wire

URL = "wss://stream.binance.com:9443/ws/0"
LIMIT_S = 30.0
ROUNDED_S = 0.001  # more than a sum of two floats is rounded by
TRADE = '{"e":"trade","E":1,"s":"BTCUSDT","t":1,"p":"1.0","q":"1.0","T":1672515782136,"m":true}'


class FrameSource:
    """A socket that always has a frame."""

    closed = True  # nobody needs to close it

    async def receive(self) -> str:
        return TRADE


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    made = Wire("binance", {"BTC/USDT": "BTCUSDT"}, URL, stale_after_s=LIMIT_S)
    yield made
    await made.close()


async def test_a_socket_that_carries_data_is_left_alone(wire: Wire) -> None:
    wire.frames(TRADE)
    wire.session.check_socket(wire.client, wire.client.last_data_at + LIMIT_S - 0.1)

    assert wire.ledger.counts.stale_reconnects == 0
    assert URL in wire.exchange.clients


async def test_frames_without_data_do_not_keep_a_socket_alive(wire: Wire) -> None:
    wire.client.last_data_at = 0.0
    wire.frames('{"result":null,"id":1}')

    assert wire.client.last_data_at == 0.0
    wire.frames(TRADE)
    assert wire.client.last_data_at > 0.0


async def test_a_silent_socket_is_dropped_once_and_its_streams_get_a_gap(wire: Wire) -> None:
    wire.frames(TRADE)
    waiting = wire.client.future("trade")

    wire.session.check_socket(wire.client, wire.client.last_data_at + LIMIT_S + ROUNDED_S)

    assert waiting.exception() is not None  # who waits on it hears of it
    assert URL not in wire.exchange.clients
    assert wire.ledger.counts.stale_reconnects == 1
    assert [gap.cause for gap in wire.intake.of(FeedGap)] == ["stale"]


async def test_a_socket_that_we_do_not_read_is_not_silent(wire: Wire) -> None:
    """The journal blocks: what the venue sends waits in the kernel, and so do its answers to pings."""
    wire.frames(TRADE)
    wire.client.connection = FrameSource()
    wire.client.lastPong = 1
    wire.intake.room.clear()
    read_from = wire.client.last_data_at
    receiving = asyncio.create_task(wire.client.receive())
    await asyncio.sleep(0)

    wire.session.check_socket(wire.client, read_from + 100 * LIMIT_S)
    assert wire.ledger.counts.stale_reconnects == 0
    assert wire.client.lastPong > 1_700_000_000_000  # ccxt's ping loop finds it answered

    wire.client.last_data_at = read_from - LIMIT_S  # as if the wait had begun that long ago
    await asyncio.sleep(0.02)
    held_from = wire.client.last_data_at
    wire.intake.room.set()
    await receiving
    assert wire.client.last_data_at >= held_from + 0.02  # the pause does not count
    assert wire.client.lastPong > 1_700_000_000_000
    wire.session.check_socket(wire.client, wire.client.last_data_at + LIMIT_S + ROUNDED_S)
    assert wire.ledger.counts.stale_reconnects == 1  # from now on it does


async def test_what_a_socket_brings_after_it_was_given_up_is_taken_and_ends_no_gap(wire: Wire) -> None:
    wire.frames(TRADE)
    wire.session.check_socket(wire.client, wire.client.last_data_at + LIMIT_S + ROUNDED_S)
    wire.frames(TRADE.replace('"t":1', '"t":2'))

    assert [trade.trade_id for trade in wire.intake.of(Trade)] == ["1", "2"]
    assert [gap.ended_at for gap in wire.intake.of(FeedGap)] == [None]


async def test_a_quiet_market_is_dialled_less_and_less_often(wire: Wire) -> None:
    def silent_for(seconds: float) -> bool:
        client = wire.exchange.client(URL)
        before = wire.ledger.counts.stale_reconnects
        wire.session.check_socket(client, client.last_data_at + seconds + ROUNDED_S)
        return wire.ledger.counts.stale_reconnects > before

    assert silent_for(LIMIT_S)
    assert not silent_for(LIMIT_S)
    assert silent_for(2 * LIMIT_S)
    assert silent_for(4 * LIMIT_S)
    assert silent_for(8 * LIMIT_S)
    assert not silent_for(7 * LIMIT_S)
    assert silent_for(8 * LIMIT_S)
