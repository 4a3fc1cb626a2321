"""One connection to Redis. Commands are sent without waiting for replies, as long as few enough are unanswered."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ingestd.errors import LiveServerError
from ingestd.sinks.redis.options import RedisConfig
from ingestd.sinks.redis.resp import CODES_TO_RECONNECT_ON, Replies, error_class

_READ_BYTES = 1 << 16
_CHECKS_PER_TIMEOUT = 3


@dataclass(slots=True)
class Outbox:
    """The commands of one write, the PUBLISHes first. `published` names the channel kind of each PUBLISH, in order."""

    parts: list[bytes] = field(default_factory=list)
    commands: int = 0
    published: list[str] = field(default_factory=list)
    size: int = 0  # in bytes, once it is sent

    def add(self, packed: bytes, count: int) -> None:
        self.parts.append(packed)
        self.commands += count


@dataclass(slots=True)
class Answered:
    """The outcome of one write: PUBLISHes accepted by kind, PUBLISHes refused, and the errors of all commands."""

    published: dict[str, int]
    refused: int
    errors: list[str]


class Link:
    """A connection with a window of unanswered commands.

    Nothing here waits for the server: `room` is 0 when the window is full. The connection is cut when the server owes a
    reply and sends nothing for `reply_timeout_s`. That time is counted in periodic checks, so that a stall of our own
    process is not taken for a stall of the server.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        config: RedisConfig,
        on_answer: Callable[[Answered], None],
    ) -> None:
        self._reader = reader
        self._transport = writer.transport
        self._config = config
        self._on_answer = on_answer
        self._replies = Replies()
        self._waiting: deque[Outbox] = deque()
        self._answered = 0  # replies that belong to completed writes
        self._errors: deque[tuple[int, str]] = deque()
        self._owed_bytes = 0
        self._owed_commands = 0
        self._idle_checks = 0  # in a row; -1: something came since the last one
        self._timer: asyncio.TimerHandle | None = None
        self._failure: str | None = None

    @property
    def owed_commands(self) -> int:
        """The number of commands sent and not answered yet."""
        return self._owed_commands

    @property
    def room(self) -> int:
        """The number of commands that may be sent now."""
        if self._failure is not None or self._owed_bytes >= self._config.window_bytes:
            return 0
        return max(0, self._config.window_commands - self._owed_commands)

    @property
    def is_cut(self) -> bool:
        """Whether the connection was given up."""
        return self._failure is not None

    def send(self, box: Outbox) -> None:
        """Send these commands now. The caller checks `room` first."""
        payload = b"".join(box.parts)
        box.parts, box.size = [], len(payload)
        self._waiting.append(box)
        self._owed_bytes += box.size
        self._owed_commands += box.commands
        self._transport.write(payload)
        if self._timer is None:
            self._idle_checks = -1
            self._check_later()

    async def run(self) -> None:
        """Read replies until the connection ends, then raise LiveServerError."""
        while True:
            try:
                data = await self._reader.read(_READ_BYTES)
            except OSError as error:
                raise LiveServerError(self._failure or f"the connection broke: {error}") from error
            if not data:
                raise LiveServerError(self._failure or "the server closed the connection")
            try:
                self._errors.extend(self._replies.feed(data))
            except ValueError as error:
                raise LiveServerError(str(error)) from error
            self._idle_checks = -1
            self._settle()

    def fail(self, why: str) -> None:
        """Cut the connection, and let `run` raise this error."""
        if self._failure is None:
            self._failure = why
            self._transport.abort()

    def close(self) -> list[Outbox]:
        """Cut the connection. Returns the writes whose outcome is not known."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.fail("closed")
        lost = list(self._waiting)
        self._waiting.clear()
        self._owed_bytes = self._owed_commands = 0
        return lost

    def _settle(self) -> None:
        while self._waiting and self._answered + self._waiting[0].commands <= self._replies.count:
            box = self._waiting.popleft()
            first, self._answered = self._answered, self._answered + box.commands
            self._owed_bytes -= box.size
            self._owed_commands -= box.commands
            published, refused, errors = Counter(box.published), 0, list[str]()
            while self._errors and self._errors[0][0] < self._answered:
                number, text = self._errors.popleft()
                errors.append(text)
                if number - first < len(box.published):
                    published[box.published[number - first]] -= 1
                    refused += 1
            self._on_answer(Answered(published, refused, errors))
            if fatal := next((text for text in errors if error_class(text) in CODES_TO_RECONNECT_ON), None):
                self.fail(f"the server answered {fatal}")

    def _check_later(self) -> None:
        every_s = self._config.reply_timeout_s / _CHECKS_PER_TIMEOUT
        self._timer = asyncio.get_running_loop().call_later(every_s, self._check)

    def _check(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        self._idle_checks += 1
        if self._idle_checks >= _CHECKS_PER_TIMEOUT:
            self.fail(f"no reply for {self._config.reply_timeout_s:g} s")
        else:
            self._check_later()
