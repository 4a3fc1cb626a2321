"""Stores that hand over what is written to them, whatever the order of a venue's writes."""

from __future__ import annotations

from typing import Any

import pytest
from ccxt.async_support.base.ws.cache import ArrayCache, ArrayCacheBySymbolById

from ingestd.feeds.ccxt.tapped_stores import KEPT_TRADES, MOST_STRANGERS, BookStore, TradeStore, UpdateStore


class Heard:
    """What was handed over."""

    def __init__(self) -> None:
        self.updates: list[tuple[str, Any]] = []

    def __call__(self, symbol: str, update: Any) -> None:
        self.updates.append((symbol, update))

    @property
    def ids(self) -> list[str]:
        return [update["id"] for _, update in self.updates]


def trade(number: int, symbol: str | None = "A/B") -> dict[str, Any]:
    return {"id": str(number), "symbol": symbol, "timestamp": number}


@pytest.fixture(params=[ArrayCache, ArrayCacheBySymbolById])
def cache_class(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_appended_before_it_is_stored(cache_class: Any) -> None:
    store = TradeStore(heard := Heard())
    cache = cache_class(1000)
    for number in range(20):
        cache.append(trade(number))
    store["A/B"] = cache

    assert heard.ids == [str(number) for number in range(20)]


def test_stored_before_it_is_appended_to(cache_class: Any) -> None:
    store = TradeStore(heard := Heard())
    cache = store["A/B"] = cache_class(1000)
    for number in range(20):
        cache.append(trade(number))
        store["A/B"] = cache  # again and again, as most venues do

    assert heard.ids == [str(number) for number in range(20)]


def test_deleted_and_created_anew(cache_class: Any) -> None:
    store = TradeStore(heard := Heard())
    first = store["A/B"] = cache_class(1000)
    first.append(trade(1))
    del store["A/B"]
    second = store["A/B"] = cache_class(1000)
    second.append(trade(2))

    assert heard.ids == ["1", "2"]


def test_the_cache_stays_small_and_usable(cache_class: Any) -> None:
    store = TradeStore(heard := Heard())
    cache = cache_class(10_000)
    for number in range(5_000):
        cache.append(trade(number))
    store["A/B"] = cache
    for number in range(5_000, 10_000):
        cache.append(trade(number))

    assert len(heard.updates) == 10_000
    assert len(cache) == KEPT_TRADES
    assert [item["id"] for item in cache][-1] == "9999"
    assert cache.getLimit("A/B", None) >= KEPT_TRADES
    assert isinstance(cache, cache_class)


def test_a_trade_without_a_symbol_has_that_of_its_store() -> None:
    store = TradeStore(heard := Heard())
    cache = store["A/B"] = ArrayCache(10)
    cache.append(trade(1, symbol=None))

    assert heard.updates[0][0] == "A/B"


def test_the_same_trade_sent_twice_is_handed_over_twice() -> None:
    store = TradeStore(heard := Heard())  # the database tells duplicates apart, not the tap
    cache = store["A/B"] = ArrayCacheBySymbolById(10)
    cache.append(trade(1))
    cache.append(trade(1))

    assert heard.ids == ["1", "1"]


def test_every_way_of_writing_an_update_is_seen() -> None:
    store = UpdateStore(heard := Heard())
    store["A"] = {"bid": 1}
    store["A"] = {"bid": 2}
    store.update({"B": {"bid": 3}})
    store.setdefault("C", {"bid": 4})
    store.setdefault("C", {"bid": 5})

    assert heard.updates == [("A", {"bid": 1}), ("A", {"bid": 2}), ("B", {"bid": 3}), ("C", {"bid": 4})]
    assert store["A"] == {"bid": 2}


def test_a_book_that_is_replaced_or_removed_is_let_go() -> None:
    store = BookStore(heard := Heard())
    book: dict[str, Any] = {}
    store["A"] = book
    heard.updates.clear()
    store["A"] = book
    assert heard.updates == []

    store["A"] = {"new": True}
    del store["A"]

    assert heard.updates == [("A", None), ("A", None)]


@pytest.mark.parametrize("kind", [TradeStore, UpdateStore, BookStore])
def test_names_that_a_message_invents_are_kept_only_for_a_while(kind: Any) -> None:
    carrier = object()
    more = {"carrier": lambda: carrier} if kind is BookStore else {}
    store = kind(Heard(), is_market=lambda symbol: symbol == "A/B", **more)
    for number in range(3 * MOST_STRANGERS):
        store["A/B"] = store.get("A/B", {})
        store[f"X{number}/B"] = {}
        store.get(f"Y{number}/B")

    assert len(store) == MOST_STRANGERS + 1
    assert {"A/B", f"X{3 * MOST_STRANGERS - 1}/B"} <= store.keys()
    assert store.carried_by(carrier) == [*store] if kind is BookStore else True
