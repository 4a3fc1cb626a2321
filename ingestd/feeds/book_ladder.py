"""How a book that is not the venue's is begun anew: ask again, end its stream first, give its socket up. Pure."""

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
    """The books that are being begun anew, and how. Only a whole book ends it: being asked for is not enough.

    `stands`: the subscription of a broken book stands, so that asking again would ask for nothing; `can_unsubscribe`:
    whether there is a second rung.
    """

    def __init__(self, *, stands: bool = False, can_unsubscribe: bool = True) -> None:
        self._stands = stands
        self._can_unsubscribe = can_unsubscribe
        self._steps: dict[str, _Step] = {}
        self._socket_given_up_at_s: dict[str, float] = {}

    def broken(self, symbol: str) -> None:
        """It is wrong."""
        if not self._stands:
            self._steps[symbol] = _Step(Rung.ASK, None)
        elif self._can_unsubscribe:
            self._steps[symbol] = _Step(Rung.UNSUBSCRIBE, None)
        else:
            self._steps[symbol] = _Step(Rung.ASK, -inf)

    def not_begun(self, symbol: str, now_s: float) -> None:
        """It changes, and it has been asked for, and no whole book came before."""
        self._steps.setdefault(symbol, _Step(Rung.ASK, now_s))

    def asking(self, symbol: str) -> Rung | None:
        """How it is to be asked for, if it has not been yet."""
        step = self._steps.get(symbol)
        return step.rung if step is not None and step.asked_at_s is None else None

    def asked(self, symbol: str, now_s: float) -> None:
        """It is asked for now: the time for the answer begins."""
        step = self._steps.get(symbol)
        if step is not None:
            step.asked_at_s = now_s

    def whole(self, symbol: str) -> None:
        """A whole book came, or nobody wants it any more, or its socket is gone."""
        self._steps.pop(symbol, None)

    def overdue(self, now_s: float) -> Iterator[tuple[str, Rung]]:
        """Those that were asked for in vain, and the next rung, which is theirs now."""
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
