"""Tracks which sockets deliver the streams of one `watch_*` call while they move between sockets. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ingestd.feeds.streams.ledger import Stream
from ingestd.feeds.streams.overlap import Overlap

LEFT_OPEN_S = 10.0  # then close the old socket even if the new one has not delivered all streams


class CallSockets:
    """The sockets of a call. `urls`: those of the newest call. `left`: older ones, which stay open until the newer ones
    deliver the streams."""

    def __init__(self, parent: CallSockets | None) -> None:
        """`parent`: the sockets of the subscription that was split."""
        self.urls: dict[str, None] = {}
        self.left: set[str] = set(parent.urls) | parent.left if parent is not None else set()
        self._called_s = 0.0

    @property
    def newest(self) -> str | None:
        """The URL that was dialled last."""
        return next(reversed(self.urls), None)

    def begin_call(self, streams: Sequence[Stream], now_s: float) -> dict[str, None]:
        """Begin another call for the streams. Returns the mapping in which to note the URLs that the call dials."""
        self.left.update(self.urls)
        self.urls = {}
        self._called_s = now_s
        for stream in streams if self.left else ():
            stream.overlap = stream.overlap or Overlap()
            stream.overlap.is_over = False
        return self.urls

    def have_moved(self, streams: Sequence[Stream], now_s: float, *, of_books: bool) -> bool:
        """Whether the newest call's sockets deliver all streams, or `LEFT_OPEN_S` has passed since the call."""
        if not self.urls:
            return False
        if of_books or now_s - self._called_s >= LEFT_OPEN_S:
            return True
        return all(stream.overlap is None or stream.overlap.heard & self.urls.keys() for stream in streams)

    def settle(self, streams: Sequence[Stream], *, of_books: bool) -> None:
        """Forget the older sockets: they are not needed any more, or the newest call uses them too."""
        for stream in streams:
            if stream.overlap is not None and stream.overlap.heard & self.urls.keys():
                stream.overlap.is_over = True
            else:
                stream.overlap = None
            if stream.url in self.left - self.urls.keys() and not of_books:
                stream.url = self.newest
        self.left.clear()
