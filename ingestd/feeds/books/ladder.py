"""Steps to replace a wrong order book: subscribe again, unsubscribe first, at last close the socket. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from math import inf

SNAPSHOT_WITHIN_S = 10.0  # after the request; venues send the snapshot with their confirmation
SOCKET_AGAIN_S = 3600.0  # at most one closed socket an hour for one book: the socket carries other streams too


class Rung(IntEnum):
    """A step that makes the venue send a snapshot of a book."""

    ASK = 1  # subscribe again: the exchange library has already removed the old subscription
    UNSUBSCRIBE = 2  # unsubscribe, then subscribe again
    SOCKET = 3  # close the socket, and subscribe to all its streams on the next one


@dataclass(slots=True)
class _Step:
    rung: Rung
    asked_at_s: float | None  # None: the step is still to be taken


class BookLadder:
    """The broken books of a feed, each with its current step. A snapshot from the venue ends the steps.

    `stays_subscribed`: a broken book stays subscribed, so that subscribing again would send nothing.
    `can_unsubscribe`: the feed can unsubscribe from one book.
    """

    def __init__(self, *, stays_subscribed: bool = False, can_unsubscribe: bool = True) -> None:
        self._stays_subscribed = stays_subscribed
        self._can_unsubscribe = can_unsubscribe
        self._steps: dict[str, _Step] = {}
        self._socket_given_up_at_s: dict[str, float] = {}

    def broken(self, symbol: str) -> None:
        """Note that the book is wrong, and schedule its first step."""
        if self._stays_subscribed and self._can_unsubscribe:
            self._steps[symbol] = _Step(Rung.UNSUBSCRIBE, None)
        else:
            self._steps[symbol] = _Step(Rung.ASK, -inf if self._stays_subscribed else None)

    def not_begun(self, symbol: str, now_s: float) -> None:
        """Note that a change arrived before the snapshot."""
        self._steps.setdefault(symbol, _Step(Rung.ASK, now_s))

    def asking(self, symbol: str) -> Rung | None:
        """The step to take now for this book; None if there is none, or it was taken already."""
        step = self._steps.get(symbol)
        return step.rung if step is not None and step.asked_at_s is None else None

    def asked(self, symbol: str, now_s: float) -> None:
        """Note that the step was taken. The venue has `SNAPSHOT_WITHIN_S` from now to send the snapshot."""
        step = self._steps.get(symbol)
        if step is not None:
            step.asked_at_s = now_s

    def whole(self, symbol: str) -> None:
        """Stop the steps for this book: its snapshot arrived, it was unsubscribed, or its socket closed."""
        self._steps.pop(symbol, None)

    def overdue(self, now_s: float) -> Iterator[tuple[str, Rung]]:
        """The books whose snapshot did not arrive in time, each with its next step."""
        for symbol, step in list(self._steps.items()):
            if step.asked_at_s is None or now_s - step.asked_at_s < SNAPSHOT_WITHIN_S:
                continue
            step.rung, step.asked_at_s = self._next(symbol, step.rung, now_s), None
            yield symbol, step.rung

    def _next(self, symbol: str, rung: Rung, now_s: float) -> Rung:
        if rung is Rung.ASK and self._can_unsubscribe:
            return Rung.UNSUBSCRIBE
        if now_s - self._socket_given_up_at_s.get(symbol, -inf) >= SOCKET_AGAIN_S:
            self._socket_given_up_at_s[symbol] = now_s
            return Rung.SOCKET
        return Rung.UNSUBSCRIBE if self._can_unsubscribe else Rung.ASK
