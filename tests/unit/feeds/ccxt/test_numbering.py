"""Whether a change follows on a book, as the venues' documents say it."""

from __future__ import annotations

from typing import Any

import pytest

from ingestd.feeds.ccxt.tapped_books import BookSteps
from ingestd.venues.all import FACTS
from ingestd.venues.ccxt_books import Numbering, Verdict


@pytest.mark.parametrize(
    ("exchange", "change", "number", "expected"),
    [
        ("deribit", {"prev_change_id": 10, "change_id": 14}, 10, "follows"),
        ("deribit", {"prev_change_id": 12, "change_id": 14}, 10, "hole"),
        ("deribit", {"prev_change_id": 8, "change_id": 10}, 10, "old"),
        ("deribit", {"change_id": 14}, 10, "follows"),  # a channel that does not say what was before
        ("blofin", {"prevSeqId": "10", "seqId": "14"}, 10, "follows"),
        ("blofin", {"prevSeqId": "10", "seqId": "3"}, 10, "follows"),  # it counts anew
        ("hitbtc", {"s": 11}, 10, "follows"),
        ("hitbtc", {"s": 12}, 10, "hole"),
        ("weex", {"U": 10, "u": 12}, 10, "follows"),
        ("weex", {"U": 11, "u": 12}, 10, "follows"),
        ("weex", {"U": 12, "u": 12}, 10, "hole"),
        ("whitebit", {"timestamp": 1.5}, 10, "follows"),
        ("xt", {"fi": 11, "i": 14}, 10, "follows"),
        ("xt", {"pu": "11", "fu": "12", "u": "14"}, 10, "hole"),
        ("grvt", {"prev_sequence_number": "41", "sequence_number": "42"}, None, "follows"),
    ],
)
def test_a_change_follows_or_not(exchange: str, change: dict[str, Any], number: int | None, expected: Verdict) -> None:
    assert numbering_of(exchange).verdict(change, number) == expected


@pytest.mark.parametrize("exchange", sorted(exchange for exchange, facts in FACTS.items() if facts.books.numbering))
@pytest.mark.parametrize(
    "frame", [None, "pong", 7, [], [1, "hb"], {}, {"data": None, "params": [], "update": 1}, {"e": "depth", "topic": 1}]
)
def test_frames_of_anything_else_are_no_books(exchange: str, frame: Any) -> None:
    read = FACTS[exchange].books.numbered_frames
    found = [] if read is None else list(read(frame, "wss://example.invalid"))
    assert all(numbering_of(exchange).last_number(one.numbers) is None for one in found)


def numbering_of(exchange: str) -> Numbering:
    numbering = FACTS[exchange].books.numbering
    assert numbering is not None
    return numbering


def counted(*steps: tuple[bool, bool]) -> BookSteps:
    """Each step is whether the change follows, and whether a change is before it."""
    series = BookSteps()
    for follows, in_turn in steps:
        series.count(follows=follows, in_turn=in_turn)
    return series


FIRST, NEXT = (True, False), (True, True)
NO_FIRST, NO_NEXT = (False, False), (False, True)


@pytest.mark.parametrize(
    ("steps", "are_believed"),
    [
        ([NO_NEXT] * 2, True),
        ([NO_NEXT] * 3, False),
        ([NO_FIRST] * 3, False),
        ([FIRST, NO_NEXT] * 3, False),  # whatever is missing, the first change follows on the book it came with
        ([NO_FIRST, NEXT, NEXT] * 3, False),  # the whole book is of another series
        ([FIRST, NEXT, NO_NEXT] * 30, True),  # a venue that loses as much
        ([FIRST, *[NEXT] * 500, NO_NEXT] * 30, True),
        ([NO_NEXT] * 3 + [NEXT] * 999, False),
        ([NO_NEXT] * 3 + [NEXT] * 1000, True),
        ([NO_NEXT] * 3 + [NEXT, NO_NEXT] * 1000, False),
    ],
)
def test_numbers_are_believed_until_nearly_every_change_leaves_some_out(
    steps: list[tuple[bool, bool]], are_believed: bool
) -> None:
    assert counted(*steps).are_believed is are_believed


def test_that_numbers_are_no_longer_believed_is_said_once() -> None:
    series = BookSteps()
    said = [series.count(follows=False, in_turn=turn % 2 == 0) for turn in range(200)]
    assert said.count(True) == 1
