"""The orders' cache: what is known of recent orders, and which of it the server does not have.

Bounded: of more orders than `MAX_ORDERS_KEPT`, those that changed longest ago are not written again after an outage;
one that waits for the server is never let go of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MAX_ORDERS_KEPT = 10_000
ORDER_TTL_S = 3600


@dataclass(slots=True)
class Order:
    """`changed_s` is on the monotonic clock."""

    fields: dict[str, str]
    changed_s: float

    def ttl_s(self, now_s: float) -> int:
        """How long it has to live."""
        return round(ORDER_TTL_S - (now_s - self.changed_s))


class Orders:
    """`take` what changed, then `pop` what is to be written: what is new first, what is written again after it."""

    def __init__(self) -> None:
        self._kept: dict[str, Order] = {}  # the one that changed last is the last
        self._new: dict[str, None] = {}
        self._again: dict[str, None] = {}

    def take(self, order_id: str, fields: Mapping[str, str], now_s: float) -> bool:
        """Remember what changed of an order. False: too many wait for the server already."""
        known = self._kept.pop(order_id, None)
        if known is None and len(self._kept) >= MAX_ORDERS_KEPT and not self._let_go():
            return False
        self._kept[order_id] = Order({**(known.fields if known is not None else {}), **fields}, now_s)
        self._again.pop(order_id, None)
        self._new[order_id] = None
        return True

    @property
    def is_clean(self) -> bool:
        """Whether the server was sent everything."""
        return not self._new and not self._again

    def pop_new(self, now_s: float) -> tuple[str, Order] | None:
        """The next change to be written; None when there is none."""
        return self._pop(self._new, now_s)

    def pop_again(self, now_s: float) -> tuple[str, Order] | None:
        """The next one to be written again; None when there is none."""
        return self._pop(self._again, now_s)

    def refill(self, now_s: float) -> None:
        """Mark all that would still be alive on the server as not written."""
        for order_id, order in list(self._kept.items()):
            if order_id in self._new:
                continue
            if order.ttl_s(now_s) > 1:
                self._again[order_id] = None
            else:
                del self._kept[order_id]
                self._again.pop(order_id, None)

    def forget_written(self) -> None:
        """Another daemon keeps the orders that were written so far: what is known of them here is getting old."""
        self._again.clear()
        self._kept = {order_id: self._kept[order_id] for order_id in self._kept if order_id in self._new}

    def _pop(self, waiting: dict[str, None], now_s: float) -> tuple[str, Order] | None:
        while waiting:
            order_id = next(iter(waiting))
            del waiting[order_id]
            order = self._kept[order_id]
            if order.ttl_s(now_s) > 0:
                return order_id, order
            del self._kept[order_id]
        return None

    def _let_go(self) -> bool:
        oldest = next((order_id for order_id in self._kept if order_id not in self._new), None)
        if oldest is None:
            return False
        del self._kept[oldest]
        self._again.pop(oldest, None)
        return True
