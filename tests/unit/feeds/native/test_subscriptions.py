"""What a socket carries and what is still to be asked for. No socket."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from ingestd.feeds.native.subscriptions import ANSWER_WITHIN_S, Subscriptions
from ingestd.feeds.streams.ledger import Stream
from ingestd.venues.venue import Asked, Limits

A, B, C = (Asked("trades", name) for name in "abc")
NOW_S = 1000.0


class Venue:
    """Asks for two streams at once, and takes three on a socket."""

    limits = Limits(
        streams_per_socket=3, streams_per_message=2, messages_per_s=1.0, sockets_per_s=1.0, source="this test"
    )

    def subscribe(self, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        return [json.dumps(["subscribe", request_id, [asked.market_id for asked in streams]]).encode()]

    def unsubscribe(self, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        return [json.dumps(["unsubscribe", request_id, [asked.market_id for asked in streams]]).encode()]


@pytest.fixture
def subscriptions() -> Subscriptions:
    """Of a, b and c; nothing has been asked for."""
    venue: Any = Venue()
    made = Subscriptions(venue)
    for asked in (A, B, C):
        made.add(asked, Stream("trades", asked.market_id.upper()))
    return made


def ask_for_all(subscriptions: Subscriptions) -> list[Any]:
    """Ask until nothing is missing; the messages."""
    messages = []
    while together := subscriptions.missing(lambda _asked: False):
        messages += [json.loads(text) for text in subscriptions.request(together)]
        subscriptions.requested(together, NOW_S)
    return messages


def ended(subscriptions: Subscriptions) -> list[Any]:
    return [json.loads(text) for text in subscriptions.end_unwanted()]


def test_what_is_missing_is_asked_for_in_messages_as_long_as_the_venue_allows(subscriptions: Subscriptions) -> None:
    assert ask_for_all(subscriptions) == [["subscribe", 1, ["a", "b"]], ["subscribe", 2, ["c"]]]
    assert ask_for_all(subscriptions) == []


def test_what_is_held_back_is_not_asked_for(subscriptions: Subscriptions) -> None:
    assert subscriptions.missing(lambda asked: asked == A) == [B, C]


def test_a_socket_has_room_up_to_the_venues_limit(subscriptions: Subscriptions) -> None:
    assert subscriptions.room == 0
    subscriptions.drop(A)
    assert subscriptions.room == 1


def test_data_is_expected_once_something_is_asked_for(subscriptions: Subscriptions) -> None:
    assert not subscriptions.expects_data
    ask_for_all(subscriptions)
    assert subscriptions.expects_data


def test_everything_is_asked_for_again_on_the_next_socket(subscriptions: Subscriptions) -> None:
    ask_for_all(subscriptions)
    subscriptions.socket_lost()

    assert not subscriptions.expects_data
    assert subscriptions.take_unanswered() == []
    assert len(ask_for_all(subscriptions)) == 2


def test_what_is_dropped_is_ended_once(subscriptions: Subscriptions) -> None:
    ask_for_all(subscriptions)
    subscriptions.drop(B)

    assert ended(subscriptions) == [["unsubscribe", 3, ["b"]]]
    assert ended(subscriptions) == []


def test_what_is_dropped_before_it_was_asked_for_needs_no_end(subscriptions: Subscriptions) -> None:
    subscriptions.drop(B)
    ask_for_all(subscriptions)

    assert ended(subscriptions) == []


def test_what_is_dropped_while_its_request_is_sent_is_ended(subscriptions: Subscriptions) -> None:
    together = subscriptions.missing(lambda _asked: False)
    subscriptions.drop(A)
    subscriptions.requested(together, NOW_S)

    assert ended(subscriptions) == [["unsubscribe", 1, ["a"]]]


def test_one_stream_is_ended_and_asked_for_anew(subscriptions: Subscriptions) -> None:
    ask_for_all(subscriptions)
    subscriptions.ask_again(C)

    assert ended(subscriptions) == [["unsubscribe", 3, ["c"]]]
    assert ask_for_all(subscriptions) == [["subscribe", 4, ["c"]]]


def test_the_decoder_knows_the_symbols_of_what_is_carried(subscriptions: Subscriptions) -> None:
    symbols = subscriptions.symbols
    subscriptions.add(Asked("order_book", "a"), Stream("order_book", "A"))
    subscriptions.drop(A)
    subscriptions.drop(B)

    assert symbols == {"a": "A", "c": "C"}  # the book of `a` is still carried


def test_a_stream_is_silent_until_it_delivers_on_this_socket(subscriptions: Subscriptions) -> None:
    subscriptions.streams[A].received = 7  # on an earlier socket
    assert subscriptions.silent() == []
    ask_for_all(subscriptions)
    subscriptions.streams[B].received = 1

    assert subscriptions.silent() == [A, C]


def test_a_refused_stream_does_not_count_as_asked_for(subscriptions: Subscriptions) -> None:
    ask_for_all(subscriptions)
    subscriptions.mark_refused(A)

    assert subscriptions.silent() == [B, C]
    assert subscriptions.missing(lambda _asked: False) == [A]


def test_a_refused_stream_that_delivers_is_not_asked_for(subscriptions: Subscriptions) -> None:
    ask_for_all(subscriptions)
    subscriptions.mark_refused(A)
    subscriptions.mark_delivering(A)

    assert subscriptions.missing(lambda _asked: False) == []


def test_requests_are_answered_or_overdue(subscriptions: Subscriptions) -> None:
    assert not subscriptions.is_answer_overdue(NOW_S)
    ask_for_all(subscriptions)

    assert not subscriptions.is_answer_overdue(NOW_S + ANSWER_WITHIN_S - 0.1)
    assert subscriptions.is_answer_overdue(NOW_S + ANSWER_WITHIN_S)
    assert [stream.symbol for stream in subscriptions.take_unanswered()] == ["A", "B", "C"]
    assert not subscriptions.is_answer_overdue(NOW_S + ANSWER_WITHIN_S)


def test_a_socket_of_liquidations_alone_may_be_silent(subscriptions: Subscriptions) -> None:
    for asked in (A, B, C):
        subscriptions.drop(asked)
    subscriptions.add(Asked("liquidations", "a"), Stream("liquidations", "A"))
    ask_for_all(subscriptions)
    assert not subscriptions.expects_data
    subscriptions.add(A, Stream("trades", "A"))
    ask_for_all(subscriptions)
    assert subscriptions.expects_data
