"""What a member is given, what it has to claim, and what it lets go of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ingestd.kafka.messages import Message
from ingestd.ops.metrics import Metrics
from ingestd.sources.assignment import Assignment
from ingestd.sources.base import ReaderLimits
from ingestd.sources.holdings import Holdings
from ingestd.sources.market_topics import MarketStore
from ingestd.sources.marks import Marks
from ingestd.sources.partitions import Partition
from ingestd.storage.writer.positions import Place
from ingestd.validation import TimeWindow
from ingestd.venues.market_names import Names

A, B = ("wolfinch.market.trades", 0), ("wolfinch.market.trades", 1)


@pytest.fixture
def now_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock, in one item."""
    clock = [1000.0]
    for module in ("assignment", "holdings"):
        monkeypatch.setattr(f"ingestd.sources.{module}.monotonic_s", lambda: clock[0])
    return clock


def test_an_assignment_says_whether_others_read_what_this_member_had() -> None:
    assignment = Assignment()
    assert not assignment.begin([A, B])
    assignment.revoke([A, B])
    assert not assignment.begin([A, B])
    assert assignment.begin([A])
    assert assignment.number == 3


@pytest.mark.usefixtures("now_s")
def test_a_partition_is_claimed_once() -> None:
    assignment = Assignment()
    assignment.begin([B, A])
    assert assignment.to_claim() == [A, B]
    assert assignment.claimed(A)
    assert not assignment.claimed(A)
    assignment.revoke([B])
    assert not assignment.claimed(B)
    assert assignment.to_claim() == []


def test_a_partition_that_another_member_owns_is_claimed_again_later(now_s: list[float]) -> None:
    assignment = Assignment()
    assignment.begin([A])
    assert assignment.claimed(A)
    assignment.claim_again(A, after_s=10)
    assignment.claim_again(B, after_s=0)  # it is not this member's any more
    assert assignment.to_claim() == []
    now_s[0] += 10
    assert assignment.to_claim() == [A]


def holding(max_records: int = 3) -> Holdings:
    metrics, assignment = Metrics(), Assignment()
    store = MarketStore("wolfinch", lambda _now: TimeWindow({}, 10**16), metrics, sent=Names(), stored=Names())
    limits = ReaderLimits(flush_s=1.0, max_records=max_records, session_timeout_s=1, stalled_after_s=5)
    made = Holdings(store, assignment, limits, metrics)
    assignment.begin([A])
    assignment.claimed(A)
    made.partitions[A] = Partition(A, "kafka:a", Place(5, 1), 5, Marks({}))
    return made


def messages(*offsets: int) -> Sequence[Any]:
    return [Message(*A, offset, b"k", b"nonsense", []) for offset in offsets]


def test_a_transaction_is_due_when_messages_are_enough_or_have_waited_enough(now_s: list[float]) -> None:
    holdings = holding()
    assert not holdings.is_due()
    holdings.take(messages(5))
    assert (holdings.count(), holdings.room(), holdings.is_due()) == (1, 2, False)
    now_s[0] += 0.9
    assert holdings.poll_s() == pytest.approx(0.1)
    now_s[0] += 0.1
    assert holdings.is_due()

    holdings = holding()
    holdings.take(messages(5, 6, 7))
    assert (holdings.room(), holdings.is_due()) == (1, True)


@pytest.mark.usefixtures("now_s")
def test_what_is_being_stored_is_not_released_when_its_partition_is_lost() -> None:
    holdings = holding()
    holdings.take(messages(5, 6))
    assert holdings.begin_storing()
    assert not holdings.idle.is_set()
    holdings.lose([A])
    assert holdings.count() == 2
    (partition,) = holdings.end_storing()
    assert holdings.idle.is_set()
    assert (len(partition.held), holdings.count()) == (2, 0)


@pytest.mark.usefixtures("now_s")
def test_a_topic_that_went_back_is_claimed_again_and_read_no_further() -> None:
    holdings = holding()
    holdings.take(messages(5))
    holdings.take(messages(2, 6))
    assert holdings.partitions == {}
    assert holdings.count() == 0
    assert not holdings.begin_storing()
