"""The ledger of what may have been missed."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.gaps.tracker import ROWS_A_MINUTE, GapTracker
from ingestd.gaps.trade_ids import IdReport
from ingestd.records import FeedGap
from ingestd.status import Earlier, StreamStatus
from tests.support.time_limits import examples


def stream(symbol: str = "A/B", last: int | None = 100, followed: int | None = 10) -> StreamStatus:
    return StreamStatus("trades", symbol, received=1, last_received_at=last, followed_at=followed)


def test_a_gap_runs_from_the_last_thing_received_to_the_next() -> None:
    tracker = GapTracker("binance")

    (opened,) = tracker.interrupted([stream()], at=150, cause="disconnect", detail="reset")
    ended = tracker.delivered(stream(), at=200)

    assert (opened.time, opened.received_at, opened.ended_at, opened.cause) == (100, 150, None, "disconnect")
    assert ended is not None
    assert (ended.time, ended.ended_at, ended.cause, ended.detail) == (100, 200, "disconnect", "reset")
    assert tracker.open == {}


def test_a_stream_that_never_spoke_lacks_everything_since_it_was_followed() -> None:
    (gap,) = GapTracker("x").interrupted([stream(last=None)], at=150, cause="disconnect")
    assert gap.time == 10


def test_a_stream_that_nobody_follows_has_no_gap() -> None:
    assert GapTracker("x").interrupted([stream(last=None, followed=None)], at=1, cause="stale") == []


def test_the_bounds_hold_on_the_venues_clock_too() -> None:
    """What is read 40 late was sent earlier; a venue whose clock is ahead stamps later than we receive."""
    tracker = GapTracker("x")
    behind = stream(last=100)
    behind.last_time = 60
    (opened,) = tracker.interrupted([behind], at=150, cause="disconnect")
    ended = tracker.delivered(behind, at=200, time=230)

    assert opened.time == 60
    assert ended is not None
    assert ended.ended_at == 230


def test_the_venues_time_of_an_old_trade_says_nothing() -> None:
    tracker = GapTracker("x")
    quiet = stream(last=10_000_000_000)
    quiet.last_time = 100  # a snapshot's trade of long ago
    (opened,) = tracker.interrupted([quiet], at=10_000_000_001, cause="disconnect")
    ended = tracker.delivered(quiet, at=10_000_000_002, time=99_000_000_000)

    assert opened.time == 10_000_000_000
    assert ended is not None
    assert ended.ended_at == 10_000_000_002


def test_a_second_interruption_does_not_open_a_second_gap() -> None:
    tracker = GapTracker("x")
    tracker.interrupted([stream()], at=150, cause="disconnect")

    assert tracker.interrupted([stream()], at=160, cause="stale") == []
    ended = tracker.delivered(stream(), at=200)
    assert ended is not None
    assert ended.cause == "disconnect"


def test_only_the_interrupted_streams() -> None:
    tracker = GapTracker("x")
    tracker.interrupted([stream("A/B")], at=150, cause="disconnect")

    assert tracker.delivered(stream("C/D"), at=200) is None
    assert ("trades", "A/B") in tracker.open


def test_an_earlier_process_left_it_complete_until_then() -> None:
    tracker = GapTracker("x")
    opened = tracker.resume(stream(last=None), Earlier(40, "restart", "it had stopped"), at=150)
    assert opened is not None
    assert (opened.time, opened.ended_at, opened.cause, opened.detail) == (40, None, "restart", "it had stopped")
    ended = tracker.delivered(stream(), at=200)
    assert ended is not None
    assert (ended.time, ended.ended_at) == (40, 200)


def test_an_earlier_process_left_a_gap_open() -> None:
    tracker = GapTracker("x")
    left = FeedGap("x", "A/B", 30, 35, "trades", None, "stale", "no data")
    assert tracker.resume(stream(last=None), Earlier(30, "stale", "no data", left), at=150) is None
    ended = tracker.delivered(stream(), at=200)
    assert ended is not None
    assert (ended.time, ended.ended_at, ended.cause) == (30, 200, "stale")


def test_what_is_no_longer_followed_misses_nothing_more() -> None:
    tracker = GapTracker("x")
    tracker.interrupted([stream()], at=150, cause="disconnect", detail="reset")
    ended = tracker.forget(stream(), at=170)

    assert ended is not None
    assert (ended.ended_at, ended.detail) == (170, "reset; no longer followed")
    assert tracker.forget(stream(), at=180) is None


def test_missing_ids_are_a_gap_or_a_remark_on_the_one_their_frame_ended() -> None:
    tracker = GapTracker("x")
    jump = tracker.counted(stream(), IdReport(100, 120, 121, ((5, 7), (9, 9))))
    assert jump is not None
    assert (jump.time, jump.ended_at, jump.cause) == (100, 121, "id_jump")
    assert jump.detail == "4 trades are missing: ids 5 to 9"

    tracker.interrupted([stream()], at=150, cause="disconnect", detail="reset")
    ended = tracker.delivered(stream(), at=200)
    remarked = tracker.counted(stream(), IdReport(100, 200, 201, ((10, 10),)))
    assert ended is not None
    assert remarked is not None
    assert (remarked.time, remarked.ended_at, remarked.cause) == (ended.time, ended.ended_at, "disconnect")
    assert remarked.detail == "reset; 1 trade is missing: ids 10 to 10"


def test_ids_that_are_complete_make_no_gap() -> None:
    assert GapTracker("x").counted(stream(), IdReport(100, 120, 121, ())) is None


# Any life of a few streams, over any number of processes, against a model that knows of each stream only since when it
# has not delivered after an interruption.

_KEYS = ("A/B", "C/D")
_events = st.lists(
    st.tuples(st.sampled_from(("deliver", "cut", "stale", "cut all", "kill", "stop")), st.sampled_from(_KEYS)),
    max_size=60,
)


@dataclass
class Life:
    """The streams of a process, the tracker, and the rows that its records come to (as the database merges them)."""

    now: int = 100
    tracker: GapTracker = field(default_factory=lambda: GapTracker("x"))
    streams: dict[str, StreamStatus] = field(default_factory=dict)
    rows: dict[tuple[str, int], int | None] = field(default_factory=dict)
    silent_since: dict[str, int] = field(default_factory=dict)
    delivered_at: dict[str, list[int]] = field(default_factory=lambda: {key: [] for key in _KEYS})
    missed: list[tuple[str, int, int]] = field(default_factory=list)

    def put(self, gap: FeedGap | None) -> None:
        if gap is not None:
            self.rows[gap.symbol, gap.time] = gap.ended_at

    def start(self, earlier: dict[str, Earlier]) -> None:
        self.tracker = GapTracker("x")
        for key in _KEYS:
            left = earlier.get(key)
            status = self.streams[key] = StreamStatus("trades", key, followed_at=self.now)
            if left is not None:
                status.followed_at = left.complete_until
                self.put(self.tracker.resume(status, left, at=self.now))

    def deliver(self, key: str) -> None:
        self.put(self.tracker.delivered(self.streams[key], at=self.now))
        self.streams[key].last_received_at = self.now
        self.delivered_at[key].append(self.now)
        if key in self.silent_since:
            self.missed.append((key, self.silent_since.pop(key), self.now))

    def interrupt(self, keys: tuple[str, ...], cause: str) -> None:
        for gap in self.tracker.interrupted([self.streams[key] for key in keys], at=self.now, cause=cause):
            self.put(gap)
        self.are_silent(keys)

    def are_silent(self, keys: tuple[str, ...]) -> None:
        for key in keys:
            began = self.delivered_at[key][-1] if self.delivered_at[key] else 100
            self.silent_since.setdefault(key, began)

    def left(self) -> dict[str, Earlier]:
        """What the file says: the open gaps, and until when each other stream is complete."""
        earlier = {}
        for key, status in self.streams.items():
            gap = self.tracker.open.get(("trades", key))
            until = status.complete_until
            assert until is not None
            earlier[key] = Earlier(until, "restart") if gap is None else Earlier(gap.time, gap.cause, gap.detail, gap)
        return earlier


@settings(max_examples=examples(400), deadline=None)
@given(_events)
def test_every_stretch_without_delivery_is_covered_by_exactly_one_gap(events: list[tuple[str, str]]) -> None:
    life = Life()
    life.start({})
    for event, key in events:
        life.now += 10
        if event == "deliver":
            life.deliver(key)
        elif event == "cut all":
            life.interrupt(_KEYS, "disconnect")
        elif event in ("cut", "stale"):
            life.interrupt((key,), event)
        else:
            left = life.left()
            life.are_silent(_KEYS)
            life.now += 10
            life.start(left)
        open_rows = {row for row, ended in life.rows.items() if ended is None}
        assert open_rows == {(silent, since) for silent, since in life.silent_since.items()}
    closed = {(symbol, began, ended) for (symbol, began), ended in life.rows.items() if ended is not None}
    assert closed == set(life.missed)
    for symbol, began, ended in closed:
        assert not [at for at in life.delivered_at[symbol] if began < at < ended]


def test_a_gap_that_is_kept_open_for_others_ends_with_the_feed_where_its_stream_had_delivered() -> None:
    tracker = GapTracker("x")
    for number in range(ROWS_A_MINUTE):
        tracker.interrupted([stream(last=100 + number)], at=200 + 10 * number, cause="disconnect")
        ended = tracker.delivered(stream(), at=205 + 10 * number)
    assert ended is None  # the last of them waits for the minute to be over

    (last,) = tracker.release(None)

    assert last.ended_at == 205 + 10 * (ROWS_A_MINUTE - 1)
    assert tracker.open == {}
    tracker.interrupted([stream(last=900)], at=1000, cause="disconnect")
    assert tracker.release(None) == []  # it is interrupted, and the next process ends it
