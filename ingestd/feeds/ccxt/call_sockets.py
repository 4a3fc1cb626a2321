"""Which sockets bring the streams of one `watch_*` call, while they move from one socket to another. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ingestd.feeds.streams.ledger import Stream
from ingestd.feeds.streams.overlap import Overlap

LEFT_OPEN_S = 10.0  # then a socket is no longer needed, although not all streams have come from the newer one


class CallSockets:
    """`urls` of the newest call, and `left` by it: those stay open until the streams come from the newer ones."""

    def __init__(self, parent: CallSockets | None) -> None:
        """`parent`: of the subscription that this is a part of."""
        self.urls: dict[str, None] = {}
        self.left: set[str] = set(parent.urls) | parent.left if parent is not None else set()
        self._called_s = 0.0

    @property
    def newest(self) -> str | None:
        """The socket that was dialled last."""
        return next(reversed(self.urls), None)

    def begin_call(self, streams: Sequence[Stream], now_s: float) -> dict[str, None]:
        """The streams are asked for anew. The mapping in which to note the URLs that the call dials."""
        self.left.update(self.urls)
        self.urls = {}
        self._called_s = now_s
        for stream in streams if self.left else ():
            stream.overlap = stream.overlap or Overlap()
            stream.overlap.is_over = False
        return self.urls

    def have_moved(self, streams: Sequence[Stream], now_s: float, *, of_books: bool) -> bool:
        """Whether all streams come from the newest call's sockets, or have had long enough to."""
        if not self.urls:
            return False
        if of_books or now_s - self._called_s >= LEFT_OPEN_S:
            return True
        return all(stream.overlap is None or stream.overlap.heard & self.urls.keys() for stream in streams)

    def settle(self, streams: Sequence[Stream], *, of_books: bool) -> None:
        """The sockets that were left are no longer needed, or are those of the newest call."""
        for stream in streams:
            if stream.overlap is not None and stream.overlap.heard & self.urls.keys():
                stream.overlap.is_over = True
            else:
                stream.overlap = None
            if stream.url in self.left - self.urls.keys() and not of_books:
                stream.url = self.newest
        self.left.clear()
