"""Every error a running ingestd raises, in one tree, and the one function that says what to do about it.

    IngestdError
    ├── ConfigError            the configuration is wrong (exit code 2)
    ├── JournalError           the local journal cannot be used
    │   ├── JournalFull        no room left and the policy says refuse
    │   ├── JournalVersion     written by a newer ingestd
    │   ├── JournalLocked      another process owns this state directory
    │   └── JournalDamaged     a file holds something that was never written to it
    ├── WorkerClosed           a thread takes no more work
    ├── SinkStateError         what a sink keeps in the state directory cannot be used
    ├── SchemaError            the database schema is not the one this program needs
    ├── LeaseLost              another ingestd captures this shard now
    ├── Interrupted            a signal ended a command before it was done
    ├── Fenced                 a newer term of the lease has begun: ask who holds it
    ├── Superseded             another writer has advanced these positions: read them again
    ├── MarkRefused            the table refuses one of several marks: write each by itself
    ├── FeedError              an exchange connection failed
    │   ├── SymbolError        one symbol is refused by the venue
    │   ├── ChannelError       the venue has no such channel
    │   ├── RateLimited        the venue asks us to wait
    │   ├── Refused            the venue sent an error, about some symbols or about anything
    │   ├── BookBroken         one order book is wrong and must be asked for again
    │   ├── MarketListTooLong  the venue lists more than any venue has
    │   ├── RedirectRefused    the venue redirects to another server
    │   ├── Unfillable         what the venue serves cannot be proved to be what the stream missed
    │   │   └── Behind         … because its past trades end too early: they may only be late
    │   └── NotYet             it cannot be done now, but later
    ├── DatabaseError          the server answered with an error (has a SQLSTATE)
    │   └── NoneTaken          … to every row of a table that was sent
    ├── KafkaError             a broker answered with an error (knows whether to try again)
    │   ├── MessageTooLarge    the broker takes no message of this size
    │   ├── ProducerFenced     this producer's sequence is refused: a new one must begin
    │   ├── NotIdempotent      the broker has no idempotent producers, or refuses them to us
    │   └── AccessRefused      wrong credentials, or no right to the topic or group
    ├── EnvelopeError          a Kafka message is not what its topic promises
    ├── ConnectionLost         no answer: the outcome of what was sent is unknown
    └── LiveServerError        Redis cannot be reached, does not answer, or refuses us

A driver's errors become these at one seam, `from` the original.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ingestd.retry import cut


class IngestdError(Exception):
    """Something ingestd can explain: the message says what happened, to what, and what to do."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration.

    `path` is the key path as written in the file (`feeds[0].channels[1]`), `value` the text of the bad value,
    `hint` the nearest valid name or what to write instead.
    """

    path: str
    message: str
    value: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        text = f"{self.path}: {self.message}"
        if self.value is not None:
            text += f" (found {self.value})"
        if self.hint is not None:
            text += f"; {self.hint}"
        return text


class ConfigError(IngestdError):
    """The configuration cannot be used; carries every mistake at once. `file`: where they are; None: not known."""

    def __init__(self, problems: Sequence[Problem], file: Path | None = None) -> None:
        self.problems = tuple(problems)
        self.file = file
        super().__init__("\n".join(str(problem) for problem in self.problems))


class JournalError(IngestdError):
    """The local journal cannot be read or written."""


class JournalFull(JournalError):
    """The journal has reached its size limit, or its disk has no room left."""


class JournalVersion(JournalError):
    """The journal was written by a newer ingestd."""


class JournalLocked(JournalError):
    """Another process owns this state directory."""


class JournalDamaged(JournalError):
    """The file holds something that was never written to it: a bad sector, a torn copy, a foreign file."""


class WorkerClosed(IngestdError):
    """A thread takes no more work: what it worked for has been closed."""


class SinkStateError(IngestdError):
    """What a sink keeps in the state directory cannot be used."""


class SchemaError(IngestdError):
    """The database schema is not the one this program needs."""


class LeaseLost(IngestdError):
    """Another ingestd captures this shard now: this one stops, and started again it stands by."""


class Interrupted(IngestdError):
    """A signal ended a command before it was done."""


class Fenced(IngestdError):
    """A newer term of the lease has begun than the writer knew of: it must learn who holds it before it stores."""


class Superseded(IngestdError):
    """Another writer has advanced or taken over these positions: what is stored must be read again."""

    def __init__(self, message: str, sources: frozenset[str]) -> None:
        super().__init__(message)
        self.sources = sources


class MarkRefused(IngestdError):
    """The table refuses one of the marks: write each by itself."""


class FeedError(IngestdError):
    """An exchange connection failed; it is dialled again."""


class SymbolError(FeedError):
    """The venue refuses this symbol; the others are not touched."""


class ChannelError(FeedError):
    """The venue offers no such channel."""


class MarketListTooLong(FeedError):
    """What a venue lists is more than any venue has."""


class RedirectRefused(FeedError):
    """The venue redirects to another server, which could read and forge everything that follows."""


class Unfillable(FeedError):
    """What the venue serves cannot be proved to be what the stream missed; the message says why."""


class Behind(Unfillable):
    """The venue's past trades end before the stream's first trade after the gap: they may only be late."""


class NotYet(FeedError):
    """It cannot be done now, but later."""


class DatabaseError(IngestdError):
    """The database answered with an error.

    `sqlstate` is the server's five-character code, `context` its CONTEXT line (for a COPY it names the row),
    `detail` its DETAIL line.
    """

    def __init__(self, message: str, *, sqlstate: str, context: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.context = context
        self.detail = detail


class NoneTaken(DatabaseError):
    """A table refuses every row of a flush: whether a row of it is at fault can be told once others have come."""


class KafkaError(IngestdError):
    """A broker answered with an error, or refused to be used; `name` is the protocol's name of it.

    `retriable`: the same request may succeed later without anybody's doing.
    """

    def __init__(self, message: str, *, name: str, retriable: bool) -> None:
        super().__init__(message)
        self.name = name
        self.retriable = retriable


class MessageTooLarge(KafkaError):
    """The broker takes no message, or no batch, of this size.

    `messages` is how many the refused batch had, None where that is not known. `foreseen`: the broker was not asked
    again, by what it had refused before, and the producer can go on.
    """

    def __init__(
        self, message: str, *, name: str, retriable: bool, messages: int | None = None, foreseen: bool = False
    ) -> None:
        super().__init__(message, name=name, retriable=retriable)
        self.messages = messages
        self.foreseen = foreseen


class ProducerFenced(KafkaError):
    """The broker refuses this producer's epoch or sequence; only a new producer can go on."""


class NotIdempotent(KafkaError):
    """The broker has no idempotent producers, or refuses them to this user: a person must act."""


class AccessRefused(KafkaError):
    """The credentials are wrong, or they give no right to this topic or group: a person must act."""


class EnvelopeError(IngestdError):
    """A Kafka message is not what its topic promises; the message says what is wrong with it."""


class ConnectionLost(IngestdError):
    """The server did not answer. Whether what was sent last took effect is not known."""


class LiveServerError(IngestdError):
    """Redis cannot be reached, does not answer in time, or refuses us; it is dialled again."""


class Reaction(enum.Enum):
    """What the one who wrote does after an error."""

    RETRY = "retry"  # the same batch again, after a delay; unknown errors too, with an alarm
    DEDUPLICATE = "deduplicate"  # the same batch again, through the staging table
    REJECT_ROW = "reject_row"  # the row goes to rejected_records: no table of this kind could take it
    REJECT_AMONG_OTHERS = "reject_among_others"  # so does this one, unless the table refuses all of several rows
    RECONNECT = "reconnect"  # the schema changed under a cached statement: reconnect once, then pause
    PAUSE = "pause"  # nothing succeeds until a person acts: long delays, loud


_SQLSTATE_REACTIONS: tuple[tuple[str, Reaction], ...] = (
    ("23505", Reaction.DEDUPLICATE),
    ("22P03", Reaction.RECONNECT),
    ("42703", Reaction.RECONNECT),
    ("42P01", Reaction.RECONNECT),
    ("42804", Reaction.RECONNECT),
    ("0A000", Reaction.RECONNECT),
    ("22", Reaction.REJECT_ROW),
    ("54", Reaction.REJECT_ROW),
    ("21", Reaction.REJECT_AMONG_OTHERS),
    ("23", Reaction.REJECT_AMONG_OTHERS),
    ("44", Reaction.REJECT_AMONG_OTHERS),
    ("P000", Reaction.REJECT_AMONG_OTHERS),
    ("28", Reaction.PAUSE),
    ("42501", Reaction.PAUSE),
    ("3D000", Reaction.PAUSE),
    ("08", Reaction.RETRY),
    ("25006", Reaction.RETRY),
    ("40", Reaction.RETRY),
    ("53", Reaction.RETRY),
    ("55P03", Reaction.RETRY),
    ("57014", Reaction.RETRY),
    ("57P", Reaction.RETRY),
    ("58", Reaction.RETRY),
    ("XX", Reaction.RETRY),
)


# What these say is of the server, the session or the schema: no row is given up for it, however often it comes.
_NEVER_OF_A_ROW = frozenset({"08", "25", "28", "3D", "40", "42", "53", "55", "57", "58"})


def may_be_of_a_row(error: BaseException) -> bool:
    """Whether what the database refused may be the fault of one row of what was sent: a wrong value, a rule of the
    table, or something nobody foresaw."""
    return isinstance(error, DatabaseError) and error.sqlstate[:2] not in _NEVER_OF_A_ROW


def reaction_to(error: BaseException) -> Reaction:
    """Say what a writer does after `error`. Unknown errors are retried, never dropped."""
    if isinstance(error, DatabaseError):
        for prefix, reaction in _SQLSTATE_REACTIONS:
            if error.sqlstate.startswith(prefix):
                return reaction
    if isinstance(error, (AccessRefused, NotIdempotent)):
        return Reaction.PAUSE
    return Reaction.RETRY


def is_known(error: BaseException) -> bool:
    """Whether `error` is one the table above names; the others raise an alarm besides being retried."""
    if isinstance(error, DatabaseError):
        return any(error.sqlstate.startswith(prefix) for prefix, _ in _SQLSTATE_REACTIONS)
    if isinstance(error, KafkaError):
        return error.retriable or isinstance(error, (MessageTooLarge, ProducerFenced, NotIdempotent, AccessRefused))
    return isinstance(error, (ConnectionLost, OSError, TimeoutError))


def is_away(error: BaseException) -> bool:
    """Whether the server is not there now: it does not answer, or it is being stopped or started."""
    return isinstance(error, ConnectionLost) or (isinstance(error, DatabaseError) and error.sqlstate.startswith("57P"))


_COPY_LINE = re.compile(r"^COPY [^,]+, line (\d+)", re.MULTILINE)


def copy_line(context: str) -> int | None:
    """The 1-based row a failed COPY names in the server's CONTEXT line, or None.

    PostgreSQL writes `COPY trades, line 777, column price: "NaNN"`.
    """
    match = _COPY_LINE.search(context)
    return int(match.group(1)) if match else None


def copy_line_is_certain(context: str) -> bool:
    """Whether that row is the one: the line quotes it. Without that the server was storing what it had read before,
    and may name the last row it read."""
    match = _COPY_LINE.search(context)
    return match is not None and context[match.end() : match.end() + 1] in (",", ":")


RATE_LIMIT_PAUSE_S = 10.0  # when the venue does not say how long


class RateLimited(FeedError):
    """The venue asks us to wait. `retry_after_s`: for how long, at most an hour; 0 if it did not say.

    `is_cut`: it asked for more than an hour.
    """

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        self.retry_after_s = cut(retry_after_s)
        self.is_cut = self.retry_after_s < retry_after_s
        if self.is_cut:
            message += f" (asks for a wait of {retry_after_s:.6g} s, and is asked again after {self.retry_after_s:g} s)"
        super().__init__(message)

    @property
    def pause_s(self) -> float:
        """How long to leave the venue alone, for what the socket needs: `retry_after_s`, or ten seconds."""
        return self.retry_after_s or RATE_LIMIT_PAUSE_S


class BookBroken(FeedError):
    """One book is wrong and must be asked for again; all else that was asked for with it goes on."""


class Refused(FeedError):
    """The venue sent an error. `symbols`: those that it names; mostly it names none, and may be about anything.

    None: nothing was asked, the exchange library itself refuses the call.
    """

    def __init__(self, message: str, symbols: frozenset[str] | None = frozenset()) -> None:
        super().__init__(message)
        self.symbols = symbols


_SUBSCRIBED_ALREADY = re.compile(r"\balready\b.*subscri|subscri.*\b(already|dup)|^already exist", re.IGNORECASE)


def says_subscribed(text: str) -> bool:
    """Whether the venue's error only says that what was asked for is subscribed: that is no refusal."""
    return _SUBSCRIBED_ALREADY.search(text) is not None
