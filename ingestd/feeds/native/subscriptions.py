"""Which streams a socket carries, and which of them are still to be asked for. Pure: the connection sends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from ingestd.channels import ROW_OF
from ingestd.feeds.streams.ledger import Stream
from ingestd.venues.venue import Asked, Venue

ANSWER_WITHIN_S = 5.0


class Subscriptions:
    """The streams of one connection. They stay when its socket is lost, and are asked for again on the next one."""

    def __init__(self, venue: Venue) -> None:
        self.streams: dict[Asked, Stream] = {}
        self.symbols: dict[str, str] = {}  # by market id; the decoder reads this very mapping
        self._venue = venue
        self._asked: dict[Asked, int] = {}  # on this socket, and how many records each had brought by then
        self._ask_again: set[Asked] = set()
        self._unanswered: list[Stream] = []
        self._asked_at_s = 0.0
        self._request_id = 0

    @property
    def room(self) -> int:
        """How many more streams the venue allows on this socket."""
        return self._venue.limits.streams_per_socket - len(self.streams)

    @property
    def expects_data(self) -> bool:
        """Whether a stream was asked for on this socket whose silence would say something."""
        return any(not ROW_OF[asked.channel].may_be_silent for asked in self._asked)

    def add(self, asked: Asked, stream: Stream) -> None:
        """Carry this stream too."""
        self.streams[asked] = stream
        self.symbols[asked.market_id] = stream.symbol

    def drop(self, asked: Asked) -> None:
        """Do not carry this stream any more."""
        self.streams.pop(asked, None)
        if not any(other.market_id == asked.market_id for other in self.streams):
            self.symbols.pop(asked.market_id, None)

    def ask_again(self, asked: Asked) -> None:
        """End this stream and ask for it anew; the others are not interrupted."""
        self._ask_again.add(asked)

    def socket_lost(self) -> None:
        """Everything is to be asked for on the next socket."""
        self._asked.clear()
        self._unanswered.clear()

    def end_unwanted(self) -> list[bytes]:
        """The messages that end streams that are dropped, or to be asked for anew. They count as sent."""
        again, self._ask_again = self._ask_again, set()
        ended = [asked for asked in self._asked if asked not in self.streams or asked in again]
        for asked in ended:
            del self._asked[asked]
        return self._venue.unsubscribe(ended, self._next_id()) if ended else []

    def missing(self, is_held: Callable[[Asked], bool]) -> list[Asked]:
        """Streams to ask for now, as many as one message may name; without those that are held back."""
        missing = (asked for asked in self.streams if asked not in self._asked and not is_held(asked))
        return list(islice(missing, self._venue.limits.streams_per_message))

    def request(self, together: Sequence[Asked]) -> list[bytes]:
        """The messages that ask for these streams."""
        return self._venue.subscribe(together, self._next_id())

    def requested(self, together: Iterable[Asked], now_s: float) -> None:
        """Those messages were sent."""
        self._asked_at_s = now_s
        for asked in together:
            stream = self.streams.get(asked)
            self._asked[asked] = stream.received if stream is not None else 0
            if stream is not None:
                self._unanswered.append(stream)

    def is_delivering(self, asked: Asked) -> None:
        """The socket brings this stream, although the venue refused it: it need not be asked for."""
        self._asked[asked] = self.streams[asked].received

    def is_refused(self, asked: Asked) -> None:
        """The venue refused this stream: it does not count as asked for."""
        self._asked.pop(asked, None)

    def silent(self) -> list[Asked]:
        """The streams that have brought nothing since they were asked for on this socket."""
        streams = self.streams
        return [a for a, received in self._asked.items() if a in streams and streams[a].received == received]

    def is_answer_overdue(self, now_s: float) -> bool:
        """Whether requests have had no answer for so long that none is expected."""
        return bool(self._unanswered) and now_s - self._asked_at_s >= ANSWER_WITHIN_S

    def take_unanswered(self) -> list[Stream]:
        """The streams that were asked for, each once: the venue has answered, or does not answer."""
        taken, self._unanswered = self._unanswered, []
        return taken

    def _next_id(self) -> int:
        self._request_id += 1
        return self._request_id
