"""The cache of recent orders, and which of them must still be written to the server.

Keeps at most `MAX_ORDERS_KEPT` orders: beyond that it forgets the written order that changed longest ago, which is then
not rewritten after an outage. An order whose change waits for the server is forgotten only when its time to live ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MAX_ORDERS_KEPT = 10_000
ORDER_TTL_S = 3600


@dataclass(slots=True)
class Order:
    """The known fields of an order, and when they changed last, by the monotonic clock."""

    fields: dict[str, str]
    changed_s: float

    def ttl_s(self, now_s: float) -> int:
        """The key's remaining time to live, in seconds."""
        return round(ORDER_TTL_S - (now_s - self.changed_s))


class Orders:
    """The recent orders. `take` collects changes; `pop` returns an order to write."""

    def __init__(self) -> None:
        self._kept: dict[str, Order] = {}  # in order of their last change
        self._new: dict[str, None] = {}  # ids of orders with an unwritten change
        self._again: dict[str, None] = {}  # ids of written orders to write once more

    def take(self, order_id: str, fields: Mapping[str, str], now_s: float) -> bool:
        """Remember the changed fields of an order. False: too many orders wait for the server."""
        known = self._kept.pop(order_id, None)
        if known is None and len(self._kept) >= MAX_ORDERS_KEPT and not self._forget_oldest_written():
            return False
        self._kept[order_id] = Order({**(known.fields if known is not None else {}), **fields}, now_s)
        self._again.pop(order_id, None)
        self._new[order_id] = None
        return True

    @property
    def is_clean(self) -> bool:
        """Whether no order waits to be written or rewritten."""
        return not self._new and not self._again

    def pop(self, now_s: float, *, again: bool = False) -> tuple[str, Order] | None:
        """Take the next changed order, or with `again` the next order to rewrite; None when none waits."""
        waiting = self._again if again else self._new
        while waiting:
            order_id = next(iter(waiting))
            del waiting[order_id]
            order = self._kept[order_id]
            if order.ttl_s(now_s) > 0:
                return order_id, order
            del self._kept[order_id]
        return None

    def refill(self, now_s: float) -> None:
        """Mark every order to be written again, but forget those that expire within a second."""
        for order_id, order in list(self._kept.items()):
            if order_id in self._new:
                continue
            if order.ttl_s(now_s) > 1:
                self._again[order_id] = None
            else:
                del self._kept[order_id]
                self._again.pop(order_id, None)

    def forget_written(self) -> None:
        """Forget the orders written so far: another daemon updates them now, and the values here become outdated."""
        self._again.clear()
        self._kept = {order_id: self._kept[order_id] for order_id in self._kept if order_id in self._new}

    def _forget_oldest_written(self) -> bool:
        oldest = next((order_id for order_id in self._kept if order_id not in self._new), None)
        if oldest is None:
            return False
        del self._kept[oldest]
        self._again.pop(oldest, None)
        return True
