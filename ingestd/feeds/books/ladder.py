"""How a wrong order book is asked for again: subscribe, unsubscribe first, at last close its socket. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from math import inf

SNAPSHOT_WITHIN_S = 10.0  # after it was asked for; venues send it with their confirmation
SOCKET_AGAIN_S = 3600.0  # a socket carries other streams too: they are not interrupted for one book again and again


class Rung(IntEnum):
    """What is done so that the venue sends a whole book."""

    ASK = 1
    """Ask for the stream again: the venue's code in the exchange library has taken back what it had to."""
    UNSUBSCRIBE = 2
    """End the stream, then ask for it again."""
    SOCKET = 3
    """Give up the socket, and ask for all that was on it on the next one."""


@dataclass(slots=True)
class _Step:
    rung: Rung
    asked_at_s: float | None  # None: it is still to be asked for


class BookLadder:
    """The books that were asked for again, and the step each one is at. A whole book from the venue ends it.

    `stands`: a broken book stays subscribed, so that subscribing again would send nothing; `can_unsubscribe`: whether
    the feed can unsubscribe from one book.
    """

    def __init__(self, *, stands: bool = False, can_unsubscribe: bool = True) -> None:
        self._stands = stands
        self._can_unsubscribe = can_unsubscribe
        self._steps: dict[str, _Step] = {}
        self._socket_given_up_at_s: dict[str, float] = {}

    def broken(self, symbol: str) -> None:
        """The book is wrong: it is to be asked for again."""
        if not self._stands:
            self._steps[symbol] = _Step(Rung.ASK, None)
        elif self._can_unsubscribe:
            self._steps[symbol] = _Step(Rung.UNSUBSCRIBE, None)
        else:
            self._steps[symbol] = _Step(Rung.ASK, -inf)

    def not_begun(self, symbol: str, now_s: float) -> None:
        """A change came before the whole book that was asked for."""
        self._steps.setdefault(symbol, _Step(Rung.ASK, now_s))

    def asking(self, symbol: str) -> Rung | None:
        """The step to take for this book; None: none, or it has been taken."""
        step = self._steps.get(symbol)
        return step.rung if step is not None and step.asked_at_s is None else None

    def asked(self, symbol: str, now_s: float) -> None:
        """The step was taken: the venue has `SNAPSHOT_WITHIN_S` from now."""
        step = self._steps.get(symbol)
        if step is not None:
            step.asked_at_s = now_s

    def whole(self, symbol: str) -> None:
        """A whole book came, or nobody wants it any more, or its socket is gone."""
        self._steps.pop(symbol, None)

    def overdue(self, now_s: float) -> Iterator[tuple[str, Rung]]:
        """The books that did not come in time, each with its next step."""
        for symbol, step in list(self._steps.items()):
            if step.asked_at_s is None or now_s - step.asked_at_s < SNAPSHOT_WITHIN_S:
                continue
            step.rung, step.asked_at_s = self._next(symbol, step.rung, now_s), None
            yield symbol, step.rung

    def _next(self, symbol: str, rung: Rung, now_s: float) -> Rung:
        if rung is Rung.ASK and self._can_unsubscribe:
            return Rung.UNSUBSCRIBE
        given_up_at_s = self._socket_given_up_at_s.get(symbol)
        if given_up_at_s is None or now_s - given_up_at_s >= SOCKET_AGAIN_S:
            self._socket_given_up_at_s[symbol] = now_s
            return Rung.SOCKET
        return Rung.UNSUBSCRIBE if self._can_unsubscribe else Rung.ASK
