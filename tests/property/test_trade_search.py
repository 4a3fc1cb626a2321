"""Whatever pages a truthful server cuts its trades into, the search finds exactly what is missing, or refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.errors import Behind, Unfillable
from ingestd.feeds.past.id_runs import Window
from ingestd.feeds.past.trade_search import Known, Request, TradeSearch
from ingestd.records import Trade
from ingestd.venues.trades import Ids, Paging
from tests.support.records import NOW_US, trade
from tests.support.time_limits import examples

Server = Callable[[Request], list[Trade]]


@dataclass(frozen=True)
class Market:
    """What happened, and which of it was stored: all before the gap, none or some in it, all after."""

    trades: list[Trade]
    stored: frozenset[str]
    before: list[Trade]
    after: list[Trade]


@st.composite
def markets(draw: st.DrawFn) -> Market:
    """Ids one apart; several trades may share a millisecond."""
    count = draw(st.integers(3, 60))
    steps = draw(st.lists(st.sampled_from((0, 0, 1000, 5000)), min_size=count, max_size=count))
    first = draw(st.integers(1, 10**9))
    at, trades = NOW_US // 1000 * 1000, []
    for index, step in enumerate(steps):
        at += step
        trades.append(trade(first + index, time=at, price=f"{100 + index}.5", quantity="0.1"))
    begin = draw(st.integers(1, count - 2))
    end = draw(st.integers(begin, count - 1))
    inside = {row.trade_id for row in trades[begin:end]}
    kept = draw(st.sets(st.sampled_from(sorted(inside)))) if inside else set()
    before = trades[max(0, begin - draw(st.integers(1, 4))) : begin]
    after = trades[end : end + draw(st.integers(1, 3))]
    stored = frozenset(row.trade_id for row in trades) - inside | kept
    return Market(trades, stored, before, after)


def known(row: Trade) -> Known:
    return Known(row.trade_id, row.time, row.price, row.quantity)


def search_of(market: Market, paging: Paging, ids: Ids) -> TradeSearch:
    times = [row.time for row in (*market.before, *market.after)]
    return TradeSearch(
        paging,
        ids,
        Window(min(times), max(times) + 1),
        before=[known(row) for row in market.before],
        after=[known(row) for row in market.after],
    )


def run(search: TradeSearch, server: Server, market: Market) -> list[str]:
    found: list[str] = []
    for _ in range(10_000):
        request = search.next()
        if request is None:
            return found
        page = server(request)
        stored = {row.trade_id: known(row) for row in market.trades if row.trade_id in {*market.stored, *found}}
        found += [row.trade_id for row in search.accept(page, stored)]
    raise AssertionError("the search does not end")


def truthful(market: Market, data: st.DataObject, *, most: int | None = None) -> Server:
    """Answers by the rules of its paging, in pages of any size, in any order, with repeats."""

    def answer(request: Request) -> list[Trade]:
        size = most or data.draw(st.integers(2, 20))
        trades = market.trades
        if request.from_id is not None:
            page = [row for row in trades if int(row.trade_id) >= request.from_id][:size]
        elif request.before_id is not None:
            page = [row for row in trades if int(row.trade_id) < request.before_id][-size:]
        elif request.since_us is not None:
            since = [row for row in trades if row.time >= request.since_us]
            alike = sum(row.time == request.since_us for row in since)
            page = since[: size + alike]  # a server that stops inside one millisecond cannot be paged by time
        else:
            page = trades[-size:]
        repeats = data.draw(st.lists(st.sampled_from(page), max_size=3)) if page else []
        return data.draw(st.permutations([*page, *repeats]))

    return answer


def lost(market: Market) -> list[str]:
    """By the book: between the edges, and not stored."""
    ids = [int(row.trade_id) for row in (*market.before, *market.after)]
    return [
        row.trade_id
        for row in market.trades
        if min(ids) <= int(row.trade_id) <= max(ids) and row.trade_id not in market.stored
    ]


@settings(max_examples=examples(300), deadline=None)
@given(market=markets(), paging=st.sampled_from((Paging.FROM_ID, Paging.BEFORE_ID, Paging.FROM_TIME)), data=st.data())
def test_any_paging_of_a_truthful_server_recovers_exactly_what_is_missing(
    market: Market, paging: Paging, data: st.DataObject
) -> None:
    search = search_of(market, paging, Ids.CONSECUTIVE)
    found = run(search, truthful(market, data), market)
    assert sorted(found, key=int) == lost(market)
    assert len(found) == len(set(found))
    assert search.proof().startswith("complete: ")


@settings(max_examples=examples(300), deadline=None)
@given(market=markets(), size=st.integers(1, 70))
def test_the_newest_trades_alone_are_enough_or_are_refused(market: Market, size: int) -> None:
    search = search_of(market, Paging.RECENT, Ids.CONSECUTIVE)
    newest = market.trades[-size:]
    reaches = {row.trade_id for row in newest} >= {market.before[-1].trade_id}
    if reaches:
        found = run(search, lambda _: newest, market)
        window = {row.trade_id for row in newest}
        assert sorted(found, key=int) == [trade_id for trade_id in lost(market) if trade_id in window]
        assert {row.trade_id for row in market.trades[market.trades.index(market.before[-1]) :]} <= window
    else:
        with pytest.raises(Unfillable):
            run(search, lambda _: newest, market)


@settings(max_examples=examples(200), deadline=None)
@given(market=markets(), data=st.data())
def test_a_server_that_leaves_out_a_run_between_pages_is_refused(market: Market, data: st.DataObject) -> None:
    """Each page is right, but they do not touch: nothing may be called filled."""
    start = market.trades.index(market.before[0])
    cut = data.draw(st.integers(start + 1, max(start + 1, market.trades.index(market.after[-1]) - 1)))
    first, rest = market.trades[start:cut], market.trades[cut:]
    pages = [first, rest]
    search = search_of(market, Paging.FROM_TIME, Ids.OPAQUE)
    if {row.trade_id for row in market.after} <= {row.trade_id for row in first}:
        return
    with pytest.raises(Unfillable):
        run(search, lambda _: pages.pop(0) if pages else [], market)


@settings(max_examples=examples(200), deadline=None)
@given(market=markets(), paging=st.sampled_from(tuple(Paging)), offset=st.integers(-30, 30), data=st.data())
def test_another_id_series_is_never_taken(market: Market, paging: Paging, offset: int, data: st.DataObject) -> None:
    """Ids that count something else, as aggregate trades do; some of the numbers exist in both series."""
    other = [replace_id(row, offset) for row in market.trades]
    shifted = Market(other, market.stored, market.before, market.after)
    search = search_of(market, paging, Ids.CONSECUTIVE)
    if offset == 0:
        return
    request = search.next()
    assert request is not None
    page = truthful(shifted, data, most=70)(request)
    stored = {row.trade_id: known(row) for row in market.trades if row.trade_id in market.stored}
    with pytest.raises(Unfillable):
        search.accept(page, stored)


def replace_id(row: Trade, offset: int) -> Trade:
    number = int(row.trade_id) + offset
    return trade(max(0, number), time=row.time, price=row.price, quantity=row.quantity)


def test_a_request_says_only_what_its_paging_needs() -> None:
    row = known(trade(7))
    later = replace(row, trade_id="9", time=row.time + 5000)
    window = Window(row.time, later.time + 1)
    for paging, expected in (
        (Paging.FROM_ID, Request(from_id=7)),
        (Paging.BEFORE_ID, Request(before_id=10)),
        (Paging.FROM_TIME, Request(since_us=row.time)),
        (Paging.RECENT, Request()),
    ):
        assert TradeSearch(paging, Ids.OPAQUE, window, before=[row], after=[later]).next() == expected


def numbered(*numbers: int) -> list[Trade]:
    return [trade(number, time=NOW_US // 1000 * 1000 + number * 1000) for number in numbers]


def test_a_hole_inside_the_first_frame_after_the_gap_is_searched_too() -> None:
    everything = numbered(*range(1, 30))
    stored = numbered(1, 2, 3, 10, 13)
    market = Market(everything, frozenset(row.trade_id for row in stored), stored[:3], stored[3:])
    found = run(search_of(market, Paging.FROM_ID, Ids.CONSECUTIVE), pages_of(everything, 4), market)
    assert found == ["4", "5", "6", "7", "8", "9", "11", "12"]


def test_an_id_that_the_venue_itself_leaves_out_is_said() -> None:
    everything = numbered(1, 2, 3, 4, 6, 7, 8)
    stored = numbered(1, 2, 8)
    market = Market(everything, frozenset(row.trade_id for row in stored), stored[:2], stored[2:])
    search = search_of(market, Paging.FROM_ID, Ids.CONSECUTIVE)
    assert run(search, pages_of(everything, 3), market) == ["3", "4", "6", "7"]
    assert not search.proof().startswith("complete: ")
    assert search.proof() == ("not proved complete: 1 of the ids from 1 to 8 are in no answer of the venue")


def pages_of(trades: list[Trade], size: int) -> Server:
    return lambda request: [row for row in trades if int(row.trade_id) >= (request.from_id or 0)][:size]


@pytest.mark.parametrize("paging", [Paging.FROM_ID, Paging.FROM_TIME, Paging.BEFORE_ID, Paging.RECENT])
def test_a_past_that_lags_behind_the_stream_is_told_from_one_that_does_not_reach_back(paging: Paging) -> None:
    everything = numbered(*range(1, 10))
    market = Market(everything, frozenset({"1", "2", "9"}), everything[:2], everything[8:])
    with pytest.raises(Behind):
        run(search_of(market, paging, Ids.CONSECUTIVE), lambda _: everything[:6], market)
    with pytest.raises(Unfillable) as raised:
        run(search_of(market, paging, Ids.CONSECUTIVE), lambda _: everything[4:], market)
    assert not isinstance(raised.value, Behind)


@settings(max_examples=examples(150), deadline=None)
@given(
    market=markets(),
    paging=st.sampled_from(tuple(Paging)),
    consecutive=st.booleans(),
    bounds=st.tuples(st.integers(-20_000, 350_000), st.integers(1, 350_000)),
    left_out=st.sets(st.integers(0, 59), max_size=2),
    data=st.data(),
)
def test_what_of_a_window_was_not_seen_is_missing(
    market: Market,
    paging: Paging,
    consecutive: bool,
    bounds: tuple[int, int],
    left_out: set[int],
    data: st.DataObject,
) -> None:
    """Whatever a server has left of the past: a trade of the window that was not found is in a missing stretch.

    A server that leaves out its newest trade cannot be told from one that has none: only a stored trade tells.
    """
    start = market.trades[0].time + bounds[0]
    window = Window(start, start + bounds[1])
    left = market.trades[data.draw(st.integers(0, len(market.trades) - 1)) :]
    until = [row for row in market.trades if row.time < window.end_us]
    has_stored = data.draw(st.booleans())
    newest = known(until[-1]) if has_stored and until else None
    last = len(left) if newest else len(left) - 1
    left = [row for index, row in enumerate(left) if index not in left_out or index >= last or not consecutive] or left
    served = Market(left, frozenset(), [], [])
    begin = Request(from_id=int(left[0].trade_id)) if paging is Paging.FROM_ID else None
    search = TradeSearch(
        paging,
        Ids.CONSECUTIVE if consecutive else Ids.OPAQUE,
        window,
        start=begin,
        needs_overlap=False,
        newest_stored=newest,
    )
    found = {*run(search, truthful(served, data), served), *([newest.trade_id] if newest else [])}
    missing = search.missing()
    for row in market.trades:
        if window.holds(row.time) and row.trade_id not in found:
            assert any(stretch.holds(row.time) for stretch in missing), (row, missing)
    assert all(window.start_us <= stretch.start_us < stretch.end_us <= window.end_us for stretch in missing)
    assert search.proof().startswith("not proved") is bool(missing)


@pytest.mark.parametrize("apart_us", [0, 1, 1000, 999_999])
@pytest.mark.parametrize("ids", [Ids.CONSECUTIVE, Ids.OPAQUE])
@pytest.mark.parametrize("paging", [Paging.RECENT, Paging.BEFORE_ID, Paging.FROM_TIME])
def test_newest_trades_that_end_before_a_stored_one_prove_no_end(paging: Paging, ids: Ids, apart_us: int) -> None:
    """However little later the stored one is: what the venue has between the two, or beside them, is not seen."""
    at = NOW_US // 1_000_000 * 1_000_000
    everything = [trade(9, time=at - 1_000_000), trade(10, time=at), trade(11, time=at + apart_us)]
    window = Window(at, at + apart_us + 1)

    def searched(served: list[Trade], stored: Known | None) -> list[Window]:
        search = TradeSearch(paging, ids, window, needs_overlap=False, newest_stored=stored)
        run(search, lambda _: served, Market(served, frozenset(), [], []))
        return search.missing()

    assert searched(everything[:2], known(everything[2])) == [window]
    assert searched(everything, known(everything[2])) == []
    cut = [trade(row.seq, time=row.time // 1_000_000 * 1_000_000) for row in everything]
    assert searched(cut, known(everything[2])) == []
    assert searched(everything[:2], None) == []  # its newest trade is the newest, as far as anyone can tell
