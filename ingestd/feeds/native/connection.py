"""One socket and the streams it carries: dialled again for ever, asked for what is missing, given up when silent."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import structlog

from ingestd.clock import monotonic_s, now_us
from ingestd.config.models import FeedConfig
from ingestd.errors import FeedError, RateLimited, says_subscribed
from ingestd.feeds.native.recorder import NativeRecorder
from ingestd.feeds.native.socket import Socket, connect
from ingestd.feeds.stopping import Stop
from ingestd.feeds.streams.ledger import Stream
from ingestd.feeds.streams.pace import Pace, Paces
from ingestd.feeds.url_map import mapped_url
from ingestd.gaps.causes import DISCONNECT
from ingestd.retry import Backoff
from ingestd.venues.messages import FrameNumber, Message, Notice
from ingestd.venues.venue import Asked, Greets, Limits, Venue

log = structlog.get_logger()

SETTLED_S = 30.0  # what has worked this long starts its delays over
QUARANTINE_S = 3600.0
QUARANTINE_OF_ALL_S = 60.0  # where nothing else on the socket delivers, it may be the venue that is unwell
REFUSALS_TO_QUARANTINE = 3
REFUSED_AGAIN_S = 5.0
ANSWER_WITHIN_S = 5.0
CONSENT_WITHIN_S = 0.5  # after a refusal that names none: it may be about another thing
_STALE_DOUBLINGS = 3  # a socket that stays silent after it was dialled again is given up to 8 times as long
_SHOWN_BYTES = 200


class Line:
    """`run` once; it ends when it carries nothing any more, or with the stop.

    `blocked()`: whether the intake has no room; `on_paused` is told when this line stopped reading for that reason,
    and who is told calls `resume`. `on_asked` is told which streams have been asked for, and are about to come.
    """

    def __init__(
        self,
        url: str,
        *,
        config: FeedConfig,
        venue: Venue,
        recorder: NativeRecorder,
        dials: Pace,
        blocked: Callable[[], bool],
        on_paused: Callable[[], None],
        on_asked: Callable[[Iterable[Stream]], None],
    ) -> None:
        self.url = url
        self.streams: dict[Asked, Stream] = {}
        self.is_connected = False
        self.has_ended = False
        self._config = config
        self._venue = venue
        self._recorder = recorder
        self._dials = dials
        self._blocked = blocked
        self._on_paused = on_paused
        self._on_asked = on_asked
        self._symbols: dict[str, str] = {}  # by market id; the decoder looks into this very one
        self._decode = venue.decoder(self._symbols, now_us())
        self._subscribed: dict[Asked, int] = {}  # on this connection, and what each had received by then
        self._unanswered: list[Stream] = []
        self._asked_at_s = 0.0
        self._consents = 0  # answers that something is subscribed
        self._again: set[Asked] = set()
        self._held: dict[Asked, float] = {}  # refused, and not asked for until then
        self._refused: Counter[Asked] = Counter()  # how often
        self._suspects: dict[Asked, None] = {}  # to be asked for alone
        self._refusals: list[Notice] = []
        self._turn = asyncio.Event()  # there is something to do
        self._socket: Socket | None = None
        self._backoff = Backoff()
        self._data_frames = 0
        self._silent_dials = 0
        self._frame_number: int | None = None
        self._request_id = 0

    @property
    def room(self) -> int:
        """How many more streams it may carry."""
        return 0 if self.has_ended else self._venue.limits.streams_per_socket - len(self.streams)

    def add(self, asked: Asked, stream: Stream) -> None:
        """Carry one more."""
        self.streams[asked] = stream
        self._symbols[asked.market_id] = stream.symbol
        self._turn.set()

    def drop(self, asked: Asked) -> None:
        """Carry it no more."""
        self.streams.pop(asked, None)
        self._refused.pop(asked, None)
        self._suspects.pop(asked, None)
        self._held.pop(asked, None)
        if not any(other.market_id == asked.market_id for other in self.streams):
            self._symbols.pop(asked.market_id, None)
        self._turn.set()

    def ask_again(self, asked: Asked) -> None:
        """End this one and ask for it anew; the others are not interrupted."""
        self._again.add(asked)
        self._turn.set()

    def give_up(self, reason: str) -> None:
        """Let the socket go: its streams are asked for on the next one."""
        if self._socket is not None:
            self._socket.abandon(reason)

    def resume(self) -> None:
        """There is room again: read."""
        if self._socket is not None:
            self._socket.resume()
            self._turn.set()

    async def run(self, stop: Stop) -> None:
        """Keep the socket and its streams until the stop, or until there are none."""
        while not stop.is_set():
            if not self.streams:
                self.has_ended = True
                return
            if not await stop.sleep(self._dials.take(monotonic_s())):
                return
            pause_s = await self._once(stop)
            if pause_s is not None and not stop.is_set():
                await stop.sleep(pause_s)

    async def _once(self, stop: Stop) -> float | None:
        """One connection, from the dial to its end; in how many seconds to dial again, unless it is over."""
        dialled_s = monotonic_s()
        url = mapped_url(self.url, self._config.url_map)
        task = await stop.run(connect(url, self._on_frame, self._after_read, self._turn.set), name=f"dial {url}")
        if task.cancelled():
            return None if stop.is_set() else self._backoff.next_s()
        raised = task.exception()
        if raised is not None:
            if not isinstance(raised, FeedError):
                raise raised
            self._recorder.counts.waits_cut += isinstance(raised, RateLimited) and raised.is_cut
            pause_s = self._backoff.next_s(raised.pause_s if isinstance(raised, RateLimited) else 0.0)
            self._recorder.disconnected(self.url, self._all(), str(raised), was_connected=False, retry_in_s=pause_s)
            return pause_s
        self._socket = socket = task.result()
        self.is_connected = True
        self._recorder.connected(self.url)
        try:
            await self._serve(socket, stop)
        finally:
            self.is_connected = False
            self._socket = None
            socket.abandon("closed here")
            self._subscribed.clear()
            if self._data_frames and monotonic_s() - dialled_s >= SETTLED_S:
                self._backoff.settled()
            pause_s = self._backoff.next_s()
            if not stop.is_set() and self.streams:
                reason, streams = socket.reason, self._all()
                self._recorder.disconnected(self.url, streams, reason, was_connected=True, retry_in_s=pause_s)
            await socket.close()
        return pause_s

    async def _serve(self, socket: Socket, stop: Stop) -> None:
        """Until the connection is over, the stop, or nothing is carried any more."""
        self._decode = self._venue.decoder(self._symbols, now_us())
        self._data_frames, self._frame_number = 0, None
        self._refusals.clear()
        self._unanswered.clear()
        pace = _message_paces(self._venue.limits)
        if isinstance(self._venue, Greets):
            await self._send(self._venue.greeting(), socket, pace, stop)
        interval_s = min(1.0, self._config.stale_after_s / 4)
        watch = _Watch(self._venue, self._config.stale_after_s * 2 ** min(self._silent_dials, _STALE_DOUBLINGS))
        while self.streams:
            self._turn.clear()
            await self._ask(socket, pace, stop)
            if self._refusals:
                self._judge_refusals()
            if self._suspects:
                await self._ask_suspects(socket, pace, stop)
            started_s = monotonic_s()
            await stop.sleep_or(self._turn, interval_s)
            if stop.is_set() or socket.lost.is_set():
                return
            self._look(socket, watch, monotonic_s() - started_s - interval_s)

    def _look(self, socket: Socket, watch: _Watch, late_s: float) -> None:
        """What is due by the clock."""
        now_s = monotonic_s()
        if watch.keep_alive_due(now_s):
            text = self._venue.keep_alive.text if self._venue.keep_alive is not None else None
            if text is None:
                socket.ping()
            else:
                socket.send(text)
        if self._unanswered and now_s - self._asked_at_s >= ANSWER_WITHIN_S:
            self._answered()
        for asked in [asked for asked, until_s in self._held.items() if until_s <= now_s]:
            del self._held[asked]
            self._suspects[asked] = None
            self._turn.set()
        # Not its silence: we do not read, or the process was stopped, or its loop held up.
        excused = socket.is_paused or late_s > watch.interval_s
        silent_s = watch.silent_s(self._data_frames, now_s, excused=excused)
        if self._data_frames:
            self._silent_dials = 0
        if silent_s >= watch.limit_s and self._subscribed:
            self._silent_dials += not self._data_frames
            detail = f"no data for {silent_s:.1f} s"
            self._recorder.stale(self.url, self._all(), detail)
            socket.abandon(detail)

    def _all(self) -> list[Stream]:
        return list(self.streams.values())

    # ---- what the venue sends

    def _on_frame(self, frame: bytes) -> None:
        try:
            messages = self._decode(frame, time.time_ns() // 1000)
            if messages and self._recorder.take(messages, self._on_other):
                self._data_frames += 1
        except Exception as error:  # noqa: BLE001  # whatever one frame does, the next must be read
            self._recorder.bad_frame(self.url, error, frame[:_SHOWN_BYTES].decode(errors="replace"))

    def _after_read(self, socket: Socket) -> None:
        if self._blocked():
            socket.pause()
            self._on_paused()

    def _on_other(self, message: Message) -> None:
        if isinstance(message, FrameNumber):
            expected = None if self._frame_number is None else self._frame_number + 1
            self._frame_number = message.number
            if expected is not None and message.number != expected and self._socket is not None:
                reason = f"frames are missing: {expected} was to come, {message.number} came"
                # Now, and not only when it is gone: the rest of this frame came after what is missing.
                self._recorder.interrupted(self._all(), DISCONNECT, reason)
                self._socket.abandon(reason)
        elif isinstance(message, Notice):
            self._on_notice(message)

    def _on_notice(self, notice: Notice) -> None:
        if notice.kind == "restarting" and self._socket is not None:
            self._socket.abandon(f"the venue closes it: {notice.text}"[:300])
        elif notice.kind == "refused" and not says_subscribed(notice.text):
            self._refusals.append(notice)
            self._turn.set()
        elif notice.kind in ("subscribed", "refused"):
            self._consents += 1
            self._answered()
            self._turn.set()

    def _answered(self) -> None:
        unanswered, self._unanswered = self._unanswered, []
        if unanswered:
            self._on_asked(unanswered)

    # ---- what it is asked for

    async def _ask(self, socket: Socket, pace: Paces, stop: Stop) -> None:
        """Ask for what is to come and does not, and end what is no longer to come."""
        again, self._again = self._again, set()
        ended = [asked for asked in self._subscribed if asked not in self.streams or asked in again]
        for asked in ended:
            del self._subscribed[asked]
        await self._send(self._venue.unsubscribe(ended, self._next_id()) if ended else (), socket, pace, stop)
        new = [a for a in self.streams if a not in self._subscribed and a not in self._held and a not in self._suspects]
        size = self._venue.limits.streams_per_message
        for start in range(0, len(new), size):
            together = [asked for asked in new[start : start + size] if asked in self.streams]
            if not together or not await self._subscribe(together, socket, pace, stop):
                return

    async def _subscribe(self, together: Sequence[Asked], socket: Socket, pace: Paces, stop: Stop) -> bool:
        if not await self._send(self._venue.subscribe(together, self._next_id()), socket, pace, stop):
            return False
        self._asked_at_s = monotonic_s()
        for asked in together:
            stream = self.streams.get(asked)
            if stream is not None:
                self._subscribed[asked] = stream.received
                self._unanswered.append(stream)
        return True

    async def _send(self, texts: Iterable[bytes], socket: Socket, pace: Paces, stop: Stop) -> bool:
        """False when the stop came, or the connection was over, before all were sent."""
        for text in texts:
            if not await stop.sleep(pace.take(monotonic_s())) or socket.lost.is_set():
                return False
            socket.send(text)
        return True

    def _next_id(self) -> int:
        self._request_id += 1
        return self._request_id

    def _judge_refusals(self) -> None:
        """Leave out what the venue refuses. Where it does not say which, each silent one is to be asked for alone."""
        refusals, self._refusals = self._refusals, []
        for notice in refusals:
            if notice.market_id is not None:
                self._quarantine([a for a in self._silent() if a.market_id == notice.market_id], notice.text)
        unnamed = next((notice for notice in refusals if notice.market_id is None), None)
        if unnamed is None:
            return
        suspects = self._silent()
        log.info("refusal_searched", feed=self._config.label, url=self.url, streams=len(suspects), text=unnamed.text)
        self._suspects.update(dict.fromkeys(suspects))

    async def _ask_suspects(self, socket: Socket, pace: Paces, stop: Stop) -> None:
        """One at a time, so that the answer is about it. What the venue says yes to is not what it refuses."""
        while self._suspects:
            asked = next(iter(self._suspects))
            consents = self._consents
            if asked in self.streams and not await self._subscribe([asked], socket, pace, stop):
                return
            self._suspects.pop(asked, None)
            until_s = monotonic_s() + ANSWER_WITHIN_S
            while asked in self.streams and self._consents == consents and monotonic_s() < until_s:
                self._turn.clear()
                await stop.sleep_or(self._turn, until_s - monotonic_s())
                if stop.is_set() or socket.lost.is_set():
                    return
                if self._refusals:
                    until_s = min(until_s, monotonic_s() + CONSENT_WITHIN_S)
            alone, self._refusals = self._refusals, []
            if alone and self._consents == consents:
                self._quarantine([asked], alone[0].text)
        self._turn.set()

    def _silent(self) -> list[Asked]:
        """Those that were asked for and have brought nothing since."""
        return [
            a for a, received in self._subscribed.items() if a in self.streams and self.streams[a].received == received
        ]

    def _quarantine(self, refused: Iterable[Asked], text: str) -> None:
        """Ask again soon; from the third time on leave these alone. One that delivers after all is well at once."""
        for asked in refused:
            stream = self.streams.get(asked)
            if stream is None:
                continue
            self._subscribed.pop(asked, None)
            self._recorder.not_subscribed([stream], text or "refused by the venue")
            self._refused[asked] += 1
            if self._refused[asked] < REFUSALS_TO_QUARANTINE:
                self._held[asked] = monotonic_s() + REFUSED_AGAIN_S
                continue
            stream.quarantined = (text or "refused by the venue")[:300]
            self._held[asked] = monotonic_s() + (QUARANTINE_S if self._data_frames else QUARANTINE_OF_ALL_S)
            log.warning(
                "quarantined",
                feed=self._config.label,
                channel=stream.channel,
                symbol=stream.symbol,
                error=stream.quarantined,
            )


def _message_paces(limits: Limits) -> Paces:
    paces = [Pace(limits.messages_per_s)]
    if limits.messages_per_hour is not None:
        paces.append(Pace.hourly(limits.messages_per_hour))
    return Paces(*paces)


class _Watch:
    """The clock's part of one connection: when it was last spoken to, and since when it has been silent."""

    def __init__(self, venue: Venue, limit_s: float) -> None:
        now_s = monotonic_s()
        self.limit_s = limit_s
        self.interval_s = min(1.0, limit_s / 4)
        self._every_s = venue.keep_alive.interval_s if venue.keep_alive is not None else None
        self._spoken_s = now_s
        self._heard_s = now_s
        self._frames = 0

    def keep_alive_due(self, now_s: float) -> bool:
        """Whether it is time to say something; then it counts as said."""
        if self._every_s is None or now_s - self._spoken_s < self._every_s:
            return False
        self._spoken_s = now_s
        return True

    def silent_s(self, data_frames: int, now_s: float, *, excused: bool) -> float:
        """How long there has been no data."""
        if data_frames != self._frames or excused:
            self._frames, self._heard_s = data_frames, now_s
        return now_s - self._heard_s
