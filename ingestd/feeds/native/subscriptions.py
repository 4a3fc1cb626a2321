"""Tracks the streams of a socket and which of them must still be requested. Pure: the connection sends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count, islice

from ingestd.channels import ROW_OF
from ingestd.feeds.streams.ledger import Stream
from ingestd.venues.venue import Asked, Venue

ANSWER_WITHIN_S = 5.0


class Subscriptions:
    """The streams of one connection. They outlast a lost socket and are requested again on the next one."""

    def __init__(self, venue: Venue) -> None:
        self.streams: dict[Asked, Stream] = {}
        self.symbols: dict[str, str] = {}  # by market id; shared with the decoder
        self._venue = venue
        self._asked: dict[Asked, int] = {}  # requested on this socket, with the records delivered by then
        self._ask_again: set[Asked] = set()
        self._unanswered: list[Stream] = []
        self._asked_at_s = 0.0
        self._request_ids = count(1)

    @property
    def room(self) -> int:
        """How many more streams the exchange allows on this socket."""
        return self._venue.limits.streams_per_socket - len(self.streams)

    @property
    def expects_data(self) -> bool:
        """Whether a requested stream should deliver regularly, so that silence means a problem."""
        return any(not ROW_OF[asked.channel].may_be_silent for asked in self._asked)

    def add(self, asked: Asked, stream: Stream) -> None:
        self.streams[asked] = stream
        self.symbols[asked.market_id] = stream.symbol

    def drop(self, asked: Asked) -> None:
        self.streams.pop(asked, None)
        if not any(other.market_id == asked.market_id for other in self.streams):
            self.symbols.pop(asked.market_id, None)

    def ask_again(self, asked: Asked) -> None:
        """Unsubscribe from a stream and subscribe again, without interrupting the others."""
        self._ask_again.add(asked)

    def socket_lost(self) -> None:
        """Mark all streams as not requested, for the next socket."""
        self._asked.clear()
        self._unanswered.clear()

    def end_unwanted(self) -> list[bytes]:
        """Make the unsubscribe messages for removed streams and for those to request again.

        From now on these streams count as not requested.
        """
        again, self._ask_again = self._ask_again, set()
        ended = [asked for asked in self._asked if asked not in self.streams or asked in again]
        for asked in ended:
            del self._asked[asked]
        return self._venue.unsubscribe(ended, next(self._request_ids)) if ended else []

    def missing(self, is_held: Callable[[Asked], bool]) -> list[Asked]:
        """The streams to request next: those that are not held back, at most as many as one message may name."""
        missing = (asked for asked in self.streams if asked not in self._asked and not is_held(asked))
        return list(islice(missing, self._venue.limits.streams_per_message))

    def request(self, together: Sequence[Asked]) -> list[bytes]:
        return self._venue.subscribe(together, next(self._request_ids))

    def requested(self, together: Iterable[Asked], now_s: float) -> None:
        """Note that the subscribe messages for these streams were sent."""
        self._asked_at_s = now_s
        for asked in together:
            stream = self.streams.get(asked)
            self._asked[asked] = stream.received if stream is not None else 0
            if stream is not None:
                self._unanswered.append(stream)

    def mark_delivering(self, asked: Asked) -> None:
        """Count a refused stream as requested, because it delivers after all."""
        self._asked[asked] = self.streams[asked].received

    def mark_refused(self, asked: Asked) -> None:
        """Count a stream as not requested, because the exchange refused it."""
        self._asked.pop(asked, None)

    def silent(self) -> list[Asked]:
        """The streams that have not delivered since they were requested on this socket."""
        streams = self.streams
        return [a for a, received in self._asked.items() if a in streams and streams[a].received == received]

    def is_answer_overdue(self, now_s: float) -> bool:
        """Whether requests have been unanswered for `ANSWER_WITHIN_S`. Then no answer is expected any more."""
        return bool(self._unanswered) and now_s - self._asked_at_s >= ANSWER_WITHIN_S

    def take_unanswered(self) -> list[Stream]:
        """Return the streams requested since the last call, and stop waiting for an answer about them."""
        taken, self._unanswered = self._unanswered, []
        return taken
