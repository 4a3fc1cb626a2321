"""Keeps one socket to an exchange connected and its streams subscribed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

from ingestd.clock import monotonic_s, now_us
from ingestd.config.models import FeedConfig
from ingestd.errors import FeedError, RateLimited
from ingestd.feeds.native.message_reader import MessageReader
from ingestd.feeds.native.refusals import Refusals
from ingestd.feeds.native.socket import Socket, connect
from ingestd.feeds.native.subscriptions import Subscriptions
from ingestd.feeds.stopping import Stop
from ingestd.feeds.streams.ledger import Stream
from ingestd.feeds.streams.pace import Pace
from ingestd.feeds.streams.quarantine import show_quarantined
from ingestd.feeds.streams.staleness import Staleness
from ingestd.feeds.urls import mapped_url
from ingestd.gaps.causes import DISCONNECT
from ingestd.retry import SETTLED_S, Backoff
from ingestd.venues.messages import Decoder, FrameNumber, Message, Notice, says_subscribed
from ingestd.venues.venue import Asked, KeepAlive, Limits, Venue

_SHOWN_BYTES = 200


@dataclass(eq=False)
class Connection:
    """Connects, subscribes, and reconnects when the socket is lost. `run` it once.

    `run` returns at the stop, or when no stream is left. `must_pause` is called after each read; if true, the
    connection stops reading until `resume`. `on_asked` is called with streams whose subscription has been answered, or
    whose answer is overdue.
    """

    url: str
    _: KW_ONLY
    config: FeedConfig
    venue: Venue
    reader: MessageReader
    dials: Pace
    must_pause: Callable[[], bool]
    on_asked: Callable[[Iterable[Stream]], None]

    def __post_init__(self) -> None:
        self._recorder = self.reader.recorder
        self._subscriptions = Subscriptions(self.venue)
        self._refusals = Refusals(self._subscriptions.streams, feed=self.config.label, url=self.url)
        self._watchdog = Watchdog(self.config.stale_after_s, self.venue.keep_alive)
        self._backoff = Backoff()
        self._wake = asyncio.Event()  # `_serve` has work
        self._socket: Socket | None = None  # None while disconnected
        self._has_ended = False

    @property
    def streams(self) -> Mapping[Asked, Stream]:
        return self._subscriptions.streams

    @property
    def is_connected(self) -> bool:
        return self._socket is not None

    @property
    def room(self) -> int:
        """How many streams can be added."""
        return 0 if self._has_ended else self._subscriptions.room

    def add(self, asked: Asked, stream: Stream) -> None:
        self._subscriptions.add(asked, stream)
        self._wake.set()

    def drop(self, asked: Asked) -> None:
        self._subscriptions.drop(asked)
        self._refusals.drop(asked)
        self._wake.set()

    def ask_again(self, asked: Asked) -> None:
        self._subscriptions.ask_again(asked)
        self._wake.set()

    def give_up(self, reason: str) -> None:
        """Close the socket; its streams are subscribed on the next one."""
        if self._socket is not None:
            self._socket.abandon(reason)

    def resume(self) -> None:
        """Continue reading: the intake has room."""
        if self._socket is not None:
            self._socket.resume()
            self._wake.set()

    async def run(self, stop: Stop) -> None:
        while self.streams and not stop.is_set():
            if await stop.sleep(self.dials.take(monotonic_s())):
                await stop.sleep(await self._connect_once(stop))
        self._has_ended = True

    async def _connect_once(self, stop: Stop) -> float:
        """Connect and serve the socket until it is lost. Return the seconds to wait before the next attempt."""
        began_s = monotonic_s()
        decode = self.venue.decoder(self._subscriptions.symbols, now_us())
        frames = Frames(self.url, decode, self.reader, self._on_notice, self._on_missing_frames)
        url = mapped_url(self.url, self.config.url_map)
        dial = await stop.run(connect(url, frames.take, self._after_read, self._wake.set), name=f"dial {url}")
        if dial.cancelled():
            return self._backoff.next_s()
        try:
            self._socket = socket = dial.result()
        except FeedError as error:
            return self._dial_failed(error)
        self._recorder.connected(self.url)
        try:
            await self._serve(socket, frames, stop)
        finally:
            self._socket = None
            socket.abandon("closed here")
            self._subscriptions.socket_lost()
            self._refusals.socket_lost(monotonic_s())
            if frames.with_data and monotonic_s() - began_s >= SETTLED_S:
                self._backoff.settled()
            retry_in_s = self._backoff.next_s()
            if self.streams and not stop.is_set():
                self._disconnected(socket.reason, retry_in_s, was_connected=True)
            await socket.close()
        return retry_in_s

    async def _serve(self, socket: Socket, frames: Frames, stop: Stop) -> None:
        """Subscribe and watch the socket until it is lost, the stop comes, or no stream is left."""
        sender = Sender(socket, self.venue.limits, stop)
        self._watchdog.socket_opened(monotonic_s())
        await sender.send(self.venue.greeting())
        while self.streams:
            self._wake.clear()
            self._judge_refusals(nothing_delivers=not frames.with_data)
            await self._ask(sender)
            began_s = monotonic_s()
            wait_s = min(self._watchdog.interval_s, self._refusals.due_in_s(began_s))
            await stop.sleep_or(self._wake, wait_s)
            if stop.is_set() or socket.lost.is_set():
                return
            self._watch(socket, frames.with_data, late_s=monotonic_s() - began_s - wait_s)

    async def _ask(self, sender: Sender) -> None:
        """Unsubscribe from unwanted streams and subscribe to missing ones. During the search for a refused stream,
        subscribe to one suspect at a time."""
        if self._refusals.awaits_answer:
            return
        suspect = self._refusals.suspect
        if suspect is not None:
            if await self._subscribe([suspect], sender):
                self._refusals.asked_alone(suspect, monotonic_s())
            return
        is_sent = await sender.send(self._subscriptions.end_unwanted())
        while is_sent and (together := self._subscriptions.missing(self._refusals.holds)):
            is_sent = await self._subscribe(together, sender)

    async def _subscribe(self, together: Sequence[Asked], sender: Sender) -> bool:
        if not await sender.send(self._subscriptions.request(together)):
            return False
        self._subscriptions.requested(together, monotonic_s())
        return True

    def _judge_refusals(self, *, nothing_delivers: bool) -> None:
        now_s = monotonic_s()
        for asked in self._refusals.release(now_s):
            self._subscriptions.mark_delivering(asked)
        silent = self._subscriptions.silent()
        for asked, text, is_quarantined in self._refusals.judge(silent, now_s, nothing_delivers=nothing_delivers):
            self._subscriptions.mark_refused(asked)
            self._recorder.ledger.not_subscribed([self.streams[asked]], text)
            if is_quarantined:
                show_quarantined(self.streams[asked], text, self.config.label)

    def _watch(self, socket: Socket, data_frames: int, late_s: float) -> None:
        """Send a due keep-alive, end the wait for overdue answers, and close a stale socket."""
        now_s = monotonic_s()
        if self._watchdog.is_keep_alive_due(now_s):
            keep_alive = self.venue.keep_alive
            if keep_alive is None or keep_alive.text is None:
                socket.ping()
            else:
                socket.send(keep_alive.text)
        if self._subscriptions.is_answer_overdue(now_s):
            self._tell_asked()
        excused = socket.is_paused or not self._subscriptions.expects_data
        stale_s = self._watchdog.stale_s(data_frames, now_s, excused=excused, late_s=late_s)
        if stale_s is not None:
            reason = f"no data for {stale_s:.1f} s"
            self._recorder.stale(self.url, list(self.streams.values()), reason)
            socket.abandon(reason)

    def _after_read(self, socket: Socket) -> None:
        if self.must_pause():
            socket.pause()

    def _on_notice(self, notice: Notice) -> None:
        if notice.kind == "restarting":
            self.give_up(f"the venue announced that it closes this socket: {notice.text}"[:300])
        elif notice.kind == "refused" and not says_subscribed(notice.text):
            self._refusals.heard(notice)
            self._wake.set()
        elif notice.kind in ("subscribed", "refused"):
            self._refusals.consented()
            self._tell_asked()
            self._wake.set()

    def _on_missing_frames(self, reason: str) -> None:
        # Open the gap now: the rest of this frame came after the missing frames.
        self._recorder.interrupted(list(self.streams.values()), DISCONNECT, reason)
        self.give_up(reason)

    def _tell_asked(self) -> None:
        """Hand the requested streams to `on_asked`, because the exchange has answered or will not answer."""
        if streams := self._subscriptions.take_unanswered():
            self.on_asked(streams)

    def _dial_failed(self, error: FeedError) -> float:
        """Report a failed dial. Return the seconds to wait before the next attempt."""
        at_least_s = 0.0
        if isinstance(error, RateLimited):
            self._recorder.ledger.counts.waits_cut += error.is_cut
            at_least_s = error.pause_s
        retry_in_s = self._backoff.next_s(at_least_s)
        self._disconnected(str(error), retry_in_s, was_connected=False)
        return retry_in_s

    def _disconnected(self, reason: str, retry_in_s: float, *, was_connected: bool) -> None:
        streams = list(self.streams.values())
        self._recorder.disconnected(self.url, streams, reason, was_connected=was_connected, retry_in_s=retry_in_s)


@dataclass(slots=True)
class Frames:
    """Decodes the frames of one socket: market data goes to the reader, messages about the connection to its owner.

    `with_data`: how many frames contained data. `number`: the number of the last frame, if the exchange numbers them.
    """

    url: str
    decode: Decoder
    reader: MessageReader
    on_notice: Callable[[Notice], None]
    on_missing_frames: Callable[[str], None]
    with_data: int = 0
    number: int | None = None

    def take(self, frame: bytes) -> None:
        """Decode one frame. An error costs this frame only."""
        try:
            messages = self.decode(frame, time.time_ns() // 1000)
            if messages and self.reader.take(messages, self._take_other):
                self.with_data += 1
        except Exception as error:  # noqa: BLE001  # whatever one frame causes, the next must still be read
            self.reader.ledger.bad_frame(self.url, error, frame[:_SHOWN_BYTES].decode(errors="replace"))

    def _take_other(self, message: Message) -> None:
        if isinstance(message, FrameNumber):
            before, self.number = self.number, message.number
            if before is not None and message.number != before + 1:
                self.on_missing_frames(f"frames are missing: expected number {before + 1}, received {message.number}")
        elif isinstance(message, Notice):
            self.on_notice(message)


class Sender:
    """Sends on one socket within the exchange's rate limits."""

    def __init__(self, socket: Socket, limits: Limits, stop: Stop) -> None:
        self._socket = socket
        self._stop = stop
        self._paces = [Pace(limits.messages_per_s)]
        if limits.messages_per_hour is not None:
            self._paces.append(Pace.hourly(limits.messages_per_hour))

    async def send(self, texts: Iterable[bytes]) -> bool:
        """Send all texts. False if the stop came or the socket was lost first."""
        for text in texts:
            now_s = monotonic_s()
            wait_s = max(pace.take(now_s) for pace in self._paces)
            if not await self._stop.sleep(wait_s) or self._socket.lost.is_set():
                return False
            self._socket.send(text)
        return True


class Watchdog:
    """Decides when the connection's socket needs a keep-alive and when it is stale.

    Call `is_keep_alive_due` and `stale_s` every `interval_s`.
    """

    def __init__(self, stale_after_s: float, keep_alive: KeepAlive | None) -> None:
        self.interval_s = min(1.0, stale_after_s / 4)
        self._staleness = Staleness(stale_after_s)
        self._keep_alive_s = keep_alive.interval_s if keep_alive is not None else float("inf")
        self._sent_s = 0.0
        self._heard_s = 0.0
        self._data_frames = 0

    def socket_opened(self, now_s: float) -> None:
        """Start over for a new socket."""
        self._sent_s = self._heard_s = now_s
        self._data_frames = 0

    def is_keep_alive_due(self, now_s: float) -> bool:
        """Whether to send a keep-alive now. If so, this one counts as sent."""
        if now_s - self._sent_s < self._keep_alive_s:
            return False
        self._sent_s = now_s
        return True

    def stale_s(self, data_frames: int, now_s: float, *, excused: bool, late_s: float) -> float | None:
        """How many seconds the socket has been silent, if it must be closed for that; otherwise None.

        `data_frames`: number of frames with data so far. `excused`: no data is expected, or reading is paused.
        `late_s`: how late this check is. If the process or its loop paused, received data may still be unread, so the
        silence before it does not count.
        """
        if data_frames != self._data_frames or excused or late_s > self.interval_s:
            self._data_frames, self._heard_s = data_frames, now_s
        silent_s = now_s - self._heard_s
        return silent_s if self._staleness.is_stale(silent_s, has_delivered=data_frames > 0) else None
