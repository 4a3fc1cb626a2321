"""Two sockets that deliver one stream."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingestd.feeds.streams.overlap import Overlap
from ingestd.records import Tick


def tick(price: str) -> Tick:
    return Tick("x", "A/B", 1, 1, price, "1", price, "1")


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(0, 12), st.randoms(use_true_random=False))
def test_each_update_is_taken_once_however_the_sockets_interleave(prices: list[str], joined: int, draw: object) -> None:
    """The newer socket joins late; both bring the rest, in the same order each, mixed at random."""
    left, newer, taken = list(prices), list(prices[joined:]), []
    overlap = Overlap()
    while left or newer:
        queues = [("old", left)] * bool(left) + [("new", newer)] * bool(newer)
        url, queue = draw.choice(queues)  # type: ignore[attr-defined]
        price = queue.pop(0)
        if not overlap.is_repeat(url, tick(price)):
            taken.append(price)

    assert all(taken.count(price) == prices.count(price) for price in "abc")


def test_what_one_socket_repeats_is_taken() -> None:
    overlap = Overlap()
    assert [overlap.is_repeat("one", tick("1")) for _ in range(3)] == [False, False, False]
    assert overlap.is_repeat("two", tick("1"))
    assert overlap.heard == {"one", "two"}
