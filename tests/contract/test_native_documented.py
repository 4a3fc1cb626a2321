"""Every decoder of our own on the frames that its exchange documents, and what each must know of its exchange."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from ingestd.records import Channel, Tick, Trade
from ingestd.venues.all import FILES, facts_in, facts_of, native_exchanges
from ingestd.venues.messages import BookChange, Message, Notice
from ingestd.venues.venue import Asked, Venue
from tests.support.documented_frames import DOCUMENTED, documented

NOW_US = 1_790_000_000_000_000
CHANNEL_OF: dict[type[Message], Channel] = {Trade: "trades", Tick: "ticks", BookChange: "order_book"}


def native(exchange: str) -> Venue:
    make = facts_of(exchange).native
    assert make is not None
    return make({})


def test_every_native_exchange_has_documented_frames() -> None:
    """Or is in the file of one that has."""
    for file in FILES:
        exchanges = [facts.exchange for facts in facts_in(file) if facts.native]
        assert not exchanges or set(exchanges) & set(DOCUMENTED), file
    assert set(DOCUMENTED) <= set(native_exchanges())


@pytest.mark.parametrize("exchange", DOCUMENTED)
def test_every_documented_frame_is_read(exchange: str) -> None:
    venue, (symbols, frames) = native(exchange), documented(exchange)
    decode = venue.decoder(symbols, NOW_US)

    found: set[Any] = set()
    for frame in frames:
        for message in decode(frame, NOW_US):
            found.add(message.kind if isinstance(message, Notice) else CHANNEL_OF.get(type(message)))
            if isinstance(message, Trade | Tick):
                assert message.exchange == exchange
            if isinstance(message, Trade | Tick | BookChange):
                assert message.symbol in symbols.values()
                assert message.received_at == NOW_US

    assert found >= (set(CHANNEL_OF.values()) & venue.channels) | {"refused"}


@pytest.mark.parametrize("exchange", DOCUMENTED)
def test_what_is_not_followed_is_left_out(exchange: str) -> None:
    decode = native(exchange).decoder({}, NOW_US)
    for frame in documented(exchange).frames:
        assert not [message for message in decode(frame, NOW_US) if isinstance(message, Trade | Tick | BookChange)]


@pytest.mark.parametrize("exchange", DOCUMENTED)
def test_no_truncated_frame_gives_a_record(exchange: str) -> None:
    symbols, frames = documented(exchange)
    decode = native(exchange).decoder(symbols, NOW_US)
    for frame in frames:
        try:
            cut = decode(frame[:-1], NOW_US)
        except ValueError:
            continue
        assert not [message for message in cut if not isinstance(message, Notice)]


@pytest.mark.parametrize("exchange", native_exchanges())
def test_a_request_carries_no_more_than_the_exchange_takes(exchange: str) -> None:
    venue = native(exchange)
    limits = venue.limits
    assert limits.source.startswith("https://")
    assert limits.messages_per_s > 0
    assert limits.streams_per_message <= limits.streams_per_socket
    ids = [market_id(venue, f"M{number}") for number in range(120)]
    streams = [Asked(channel, id_) for channel in sorted(set(CHANNEL_OF.values()) & venue.channels) for id_ in ids]
    for ask in (venue.subscribe, venue.unsubscribe):
        messages = ask(streams, 1)
        assert all(len(market_ids_in(message)) <= limits.streams_per_message for message in messages)
        assert sum(len(market_ids_in(message)) for message in messages) >= len(streams)


def market_id(venue: Venue, name: str) -> str:
    market = {"id": name, "symbol": f"{name}/USDT", "spot": True, "info": {}}
    return venue.market_id(market)


def market_ids_in(message: bytes) -> list[bytes]:
    msgspec.json.decode(message)
    return re.findall(rb"\bM[0-9]+", message, re.IGNORECASE)
