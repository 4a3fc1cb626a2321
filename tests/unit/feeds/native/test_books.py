"""Books from changes: against a plain reading, and every way one can be out of step."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from ingestd.feeds.native.books import MOST_WAITING, Books
from ingestd.records import BookSnapshot
from ingestd.venues.binance import BinanceBookRule
from ingestd.venues.messages import BookChange, Row
from ingestd.venues.venue import BookRule

SYMBOL = "BTC/USDT"


class Summed(BookRule):
    """A rule whose changes state the number of levels as their checksum, of a book three levels deep."""

    depth = 3

    def agrees(self, change: BookChange, bids: object, asks: object) -> bool:
        assert callable(bids)
        assert callable(asks)
        return change.checksum == len(bids(9)) + len(asks(9))


def change(first: int, last: int, bids: list[Row] | None = None, asks: list[Row] | None = None) -> BookChange:
    return BookChange(SYMBOL, 1000 + last, 2000 + last, bids or [], asks or [], first=first, last=last)


def snapshot(bids: list[Row], asks: list[Row], checksum: int | None = None) -> BookChange:
    return BookChange(SYMBOL, 1, 2, bids, asks, is_snapshot=True, checksum=checksum)


def over_rest() -> Books:
    books = Books(BinanceBookRule(), over_rest=True)
    books.follow(SYMBOL)
    return books


def begun(number: int = 10) -> Books:
    books = over_rest()
    books.asked(SYMBOL)
    assert books.begin(SYMBOL, {"bids": [("1.0", "5")], "asks": [("2.0", "5")], "nonce": number}, 7)
    return books


def sampled(books: Books, levels: int = 20) -> BookSnapshot:
    book = books.get(SYMBOL)
    assert book is not None
    record = book.snapshot("binance", levels)
    assert record is not None
    return record


def test_a_thousand_random_changes_against_a_plain_reading() -> None:
    """The plain reading keeps decimals, and sorts all of them each time."""
    dice = random.Random(7)
    books = begun()
    plain: dict[str, dict[Decimal, tuple[str, str]]] = {
        "bids": {Decimal("1.0"): ("1.0", "5")},
        "asks": {Decimal("2.0"): ("2.0", "5")},
    }
    for number in range(11, 1011):
        rows: dict[str, list[Row]] = {}
        for side in plain:
            prices = {f"{dice.randint(1, 400) / 100:.{dice.choice([2, 8])}f}" for _ in range(dice.randint(0, 6))}
            rows[side] = [(price, dice.choice(["0", "0.000", "1.50", "7"])) for price in prices]
            for price, amount in rows[side]:
                at = Decimal(price)
                if Decimal(amount):
                    plain[side][at] = (plain[side].get(at, (price,))[0], amount)
                else:
                    plain[side].pop(at, None)
        assert books.take(change(number, number, rows["bids"], rows["asks"])) == "changed"
        record = sampled(books, 5)
        bids = tuple(plain["bids"][at] for at in sorted(plain["bids"], reverse=True)[:5])
        asks = tuple(plain["asks"][at] for at in sorted(plain["asks"])[:5])
        assert (record.bids, record.asks) == (bids, asks)
        assert record.valid is not bool(bids and asks and Decimal(bids[0][0]) >= Decimal(asks[0][0]))
        assert (record.sequence, record.time, record.received_at) == (number, 1000 + number, 2000 + number)


def test_nothing_is_sampled_before_the_snapshot_and_what_waited_goes_onto_it() -> None:
    books = over_rest()
    assert books.needs_snapshot(SYMBOL)
    books.take(change(1, 2, [("9.0", "9")]))  # nobody has asked yet: it is older than any snapshot to come
    books.asked(SYMBOL)
    assert not books.needs_snapshot(SYMBOL)
    for number in (9, 10, 11, 12):
        assert books.take(change(number, number, [(f"1.{number}", "1")])) == "nothing"
    assert books.get(SYMBOL) is None

    assert books.begin(SYMBOL, {"bids": [("1.0", "5")], "asks": [("2.0", "5")], "nonce": 10}, 77)

    record = sampled(books)
    assert record.bids == (("1.12", "1"), ("1.11", "1"), ("1.0", "5"))
    assert (record.sequence, record.time, record.received_at) == (12, 1012, 77)


def test_a_snapshot_alone_has_its_own_time_or_that_of_its_arrival() -> None:
    assert sampled(begun()).time == 7
    books = over_rest()
    books.asked(SYMBOL)
    books.begin(SYMBOL, {"bids": [("1", "5")], "asks": [], "nonce": 10, "timestamp": 1_790_000_000_123}, 7)
    assert sampled(books).time == 1_790_000_000_123_000


def test_a_snapshot_older_than_what_waited_does_not_fit() -> None:
    books = over_rest()
    books.asked(SYMBOL)
    books.take(change(20, 21))

    assert not books.begin(SYMBOL, {"bids": [("1.0", "5")], "asks": [], "nonce": 10}, 7)
    assert books.get(SYMBOL) is None
    assert books.needs_snapshot(SYMBOL)


@pytest.mark.parametrize(
    "broken", [{}, {"bids": [("x", "1")], "asks": [], "nonce": 1}, {"bids": 1, "asks": [], "nonce": 1}]
)
def test_a_snapshot_that_cannot_be_read_does_not_fit(broken: dict[str, object]) -> None:
    books = over_rest()
    books.asked(SYMBOL)

    assert not books.begin(SYMBOL, broken, 7)
    assert books.needs_snapshot(SYMBOL)


def test_what_waits_is_bounded() -> None:
    books = over_rest()
    books.asked(SYMBOL)
    for number in range(MOST_WAITING + 1):
        books.take(change(number, number))

    assert books.needs_snapshot(SYMBOL)


def test_a_hole_breaks_the_book_and_old_changes_do_not() -> None:
    books = begun(10)
    assert books.take(change(8, 9)) == "nothing"
    assert books.take(change(11, 12)) == "changed"
    assert books.take(change(14, 15)) == "sequence"


@pytest.mark.parametrize("row", [("x", "1"), ("1.0", ""), ("nan", "1"), ("inf", "1"), ("1.0", "-1"), ("1.0",)])
def test_of_a_change_with_a_row_that_is_none_nothing_is_taken(row: Row) -> None:
    books = begun(10)

    with pytest.raises(ValueError):  # noqa: PT011 - float has a text of its own
        books.take(change(11, 12, [("1.5", "1")], [("2.0", "0"), row]))

    book = books.get(SYMBOL)
    assert book is not None
    assert (book.bids.best(9), book.asks.best(9)) == ((("1.0", "5"),), (("2.0", "5"),))


def test_crossed_sides_are_not_valid() -> None:
    books = begun(10)
    books.take(change(11, 11, [("2.5", "1")]))

    assert not sampled(books).valid


def test_levels_that_leave_a_fixed_depth_are_forgotten() -> None:
    books = Books(Summed(), over_rest=False)
    books.follow(SYMBOL)
    books.take(snapshot([("5", "1"), ("4", "1"), ("3", "1")], [("6", "1")]))
    books.take(BookChange(SYMBOL, 1, 2, [("4.5", "1")], []))
    books.take(BookChange(SYMBOL, 1, 2, [("5", "0")], []))

    assert sampled(books).bids == (("4.5", "1"), ("4", "1"))


def test_a_checksum_breaks_a_book_only_where_one_has_agreed() -> None:
    books = Books(Summed(), over_rest=False)
    books.follow(SYMBOL)
    assert books.take(snapshot([("5", "1")], [("6", "1")], checksum=99)) == "changed"
    assert books.take(snapshot([("5", "1")], [("6", "1")], checksum=2)) == "changed"
    assert books.take(snapshot([("5", "1")], [("6", "1")], checksum=99)) == "checksum"


def test_a_checksum_that_contradicts_book_after_book_is_not_the_books_fault() -> None:
    """Each of them was begun anew: it would be so for ever."""
    books = Books(Summed(), over_rest=False)
    books.follow(SYMBOL)
    effects = [books.take(snapshot([("5", "1")], [("6", "1")], checksum=2))]
    for _ in range(5):
        effects.append(books.take(snapshot([("5", "1")], [("6", "1")], checksum=99)))
        if effects[-1] == "checksum":
            books.interrupted(SYMBOL)
    assert effects == ["changed", "checksum", "checksum", "changed", "changed", "changed"]
    assert books.get(SYMBOL) is not None


def test_before_its_first_snapshot_nothing_of_a_streamed_book_is_taken() -> None:
    books = Books(Summed(), over_rest=False)
    books.follow(SYMBOL)

    assert books.take(BookChange(SYMBOL, 1, 2, [("4.5", "1")], [])) == "nothing"
    assert not books.needs_snapshot(SYMBOL)
    assert books.get(SYMBOL) is None


def test_an_interrupted_book_begins_anew() -> None:
    books = begun(10)
    books.interrupted(SYMBOL)

    assert books.get(SYMBOL) is None
    assert books.take(change(11, 11)) == "nothing"
    assert books.needs_snapshot(SYMBOL)


def test_a_book_that_is_not_followed_is_nobodys() -> None:
    books = begun(10)
    books.forget(SYMBOL)

    assert books.take(change(11, 11)) == "nothing"
    assert not books.needs_snapshot(SYMBOL)
    assert books.get(SYMBOL) is None


def test_a_side_is_bounded_by_its_best() -> None:
    books = begun(10)
    books.take(change(11, 11, [(f"{price}", "1") for price in range(1, 12_000)]))

    book = books.get(SYMBOL)
    assert book is not None
    prices = [int(price.split(".")[0]) for price, _ in book.bids.best(20_000)]
    assert prices == list(range(11_999, 11_999 - len(prices), -1))
    assert len(prices) == 5_000
