"""The tree of all errors that ingestd raises, and `reaction_to`, which decides what a writer does after one.

    IngestdError               any of these; the message says what to do
    ├── ConfigError            mistakes in the configuration
    ├── JournalError           the journal cannot be read or written
    │   ├── JournalFull        its size limit is reached, or the disk is full
    │   ├── JournalVersion     a newer ingestd wrote it
    │   ├── JournalLocked      another process uses the state directory
    │   └── JournalDamaged     bytes that ingestd never wrote
    ├── WorkerClosed           a worker thread's owner was closed
    ├── SinkStateError         a sink's file in the state directory is unusable
    ├── SchemaError            the database has another schema
    ├── PayloadError           the repository is given what no table takes
    ├── SealBroken             a stored secret cannot be read with any of the keys
    ├── LeaseLost              another ingestd captures this shard
    ├── Interrupted            a signal ended a command
    ├── Fenced                 a newer lease term has begun
    ├── Superseded             another writer has these positions
    ├── MarkRefused            the table refuses one of several marks
    ├── FeedError              an exchange connection failed
    │   ├── SymbolError        the venue refuses a symbol
    │   ├── ChannelError       the venue has no such channel
    │   ├── MarketListTooLong  an implausibly long list of markets
    │   ├── NoMarketList       something else than a list of markets
    │   ├── RedirectRefused    a redirect to another server
    │   ├── Unfillable         the venue's past proves nothing about a gap
    │   │   └── Behind         its past may only lag behind
    │   ├── NotYet             not possible now, but later
    │   ├── RateLimited        the venue asks us to wait
    │   ├── BookBroken         one order book is wrong
    │   └── Refused            the venue sent an error
    ├── DatabaseError          the database answered with an error
    │   └── NoneTaken          a table refuses every row of a flush
    ├── KafkaError             a broker answered with an error
    │   ├── MessageTooLarge    a message or batch over the broker's limit
    │   ├── ProducerFenced     only a new producer can continue
    │   ├── NotIdempotent      no idempotent producers for this user
    │   └── AccessRefused      wrong credentials, or no permission
    ├── InfluxError            a server of the line protocol answered with an error
    │   └── PointsRefused      it does not take all points of a request
    ├── EnvelopeError          a Kafka message has the wrong format
    ├── ConnectionLost         the server did not answer
    └── LiveServerError        Redis cannot be used now

Each driver's errors are translated into these at its seam, with `from` the original.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ingestd.retry import cut


class IngestdError(Exception):
    """An error that ingestd can explain: the message says what happened, to what, and what to do."""


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
    """The configuration is invalid; the exit code is 2. Carries all mistakes, and the file that holds them if known."""

    def __init__(self, problems: Sequence[Problem], file: Path | None = None) -> None:
        self.problems = tuple(problems)
        self.file = file
        super().__init__("\n".join(str(problem) for problem in self.problems))


class JournalError(IngestdError):
    """The local journal cannot be read or written."""


class JournalFull(JournalError):
    """The journal has reached its size limit, or its disk is full."""


class JournalVersion(JournalError):
    """The journal was written by a newer ingestd."""


class JournalLocked(JournalError):
    """Another process owns this state directory."""


class JournalDamaged(JournalError):
    """The file holds bytes that ingestd never wrote: a bad sector, an incomplete copy, another program's file."""


class WorkerClosed(IngestdError):
    """A worker thread accepts no more work, because its owner was closed."""


class SinkStateError(IngestdError):
    """A sink's file in the state directory cannot be used."""


class MarketUnknown(IngestdError):
    """A record's market has no name in the configured style, because the market is not known."""


class PayloadError(IngestdError):
    """The repository was given a row that no table takes; the message says why."""


class SealBroken(IngestdError):
    """A stored secret cannot be read: its key is not among those given, or it was changed or moved."""


class SchemaError(IngestdError):
    """The database schema is not the one this program needs."""


class LeaseLost(IngestdError):
    """Another ingestd captures this shard now. This one stops; when it is started again, it runs as the standby."""


class Interrupted(IngestdError):
    """A signal ended a command early."""


class Fenced(IngestdError):
    """A newer lease term has begun than the writer knew: it must find out who holds the lease before it stores
    anything."""


class Superseded(IngestdError):
    """Another writer has advanced or taken over these positions: read the stored positions again."""

    def __init__(self, message: str, sources: frozenset[str]) -> None:
        super().__init__(message)
        self.sources = sources


class MarkRefused(IngestdError):
    """The table refuses one of several marks: write them one by one."""


class FeedError(IngestdError):
    """An exchange connection failed; ingestd reconnects."""


class SymbolError(FeedError):
    """The venue refuses this symbol; other symbols are not affected."""


class ChannelError(FeedError):
    """The venue offers no such channel."""


class MarketListTooLong(FeedError):
    """The venue's market list is longer than any plausible one."""


class NoMarketList(FeedError):
    """The venue's market list does not have the expected form."""


class RedirectRefused(FeedError):
    """The venue redirects to another server, which could read and forge all later traffic."""


class Unfillable(FeedError):
    """The venue's history cannot be proved to cover what the stream missed; the message says why."""


class Behind(Unfillable):
    """The venue's history ends before the stream's first trade after the gap: it may only lag behind."""


class NotYet(FeedError):
    """The work cannot be done now, but later."""


RATE_LIMIT_PAUSE_S = 10.0  # if the venue does not say how long


class RateLimited(FeedError):
    """The venue asks us to wait. `retry_after_s` is the wait, at most an hour; 0 if the venue gave none.

    `is_cut`: the venue asked for more than an hour.
    """

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        self.retry_after_s = cut(retry_after_s)
        self.is_cut = self.retry_after_s < retry_after_s
        if self.is_cut:
            message += f" (asks for a wait of {retry_after_s:.6g} s, and is asked again after {self.retry_after_s:g} s)"
        super().__init__(message)

    @property
    def pause_s(self) -> float:
        """How long to send the venue no requests for the socket: `retry_after_s`, or ten seconds."""
        return self.retry_after_s or RATE_LIMIT_PAUSE_S


class BookBroken(FeedError):
    """One order book is wrong and needs a new snapshot; the other subscriptions continue."""


class Refused(FeedError):
    """The venue sent an error. `symbols` are those it names; usually none, and the error may concern anything.

    None: no request was sent, because the exchange library itself refuses the call.
    """

    def __init__(self, message: str, symbols: frozenset[str] | None = frozenset()) -> None:
        super().__init__(message)
        self.symbols = symbols


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
    """A table refuses every row of a flush. Only later rows can show whether the rows or the table are at fault."""


class KafkaError(IngestdError):
    """A broker answered with an error, or cannot be used; `name` is the protocol's name of the error.

    `retriable`: the same request may succeed later without intervention.
    """

    def __init__(self, message: str, *, name: str, retriable: bool) -> None:
        super().__init__(message)
        self.name = name
        self.retriable = retriable


class MessageTooLarge(KafkaError):
    """The broker does not accept a message, or a batch, of this size.

    `messages` is the number of messages in the refused batch, None if not known. `foreseen`: the batch was not sent,
    because the broker has refused this size before; the producer can continue.
    """

    def __init__(self, message: str, *, name: str, retriable: bool, foreseen: bool = False) -> None:
        super().__init__(message, name=name, retriable=retriable)
        self.messages: int | None = None
        self.foreseen = foreseen


class ProducerFenced(KafkaError):
    """The broker refuses this producer's epoch or sequence; only a new producer can continue."""


class NotIdempotent(KafkaError):
    """The broker does not support idempotent producers, or denies them to this user: an operator must act."""


class AccessRefused(KafkaError):
    """The credentials are wrong, or lack permission for this topic or group: an operator must act."""


class InfluxError(IngestdError):
    """A server of the line protocol answered with an error; `status` is that of HTTP.

    `needs_a_person`: the same request fails until somebody acts. `retry_after_s`: the wait that the server asks for,
    0 if it asks for none.
    """

    def __init__(self, message: str, *, status: int, needs_a_person: bool, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.needs_a_person = needs_a_person
        self.retry_after_s = cut(retry_after_s)


class PointsRefused(InfluxError):
    """The server does not take all points of a request. `said`: its own words. `dropped`: how many it has left out of
    those that it could store; None if it does not say, or has stored none."""

    def __init__(self, message: str, *, status: int, said: str, dropped: int | None) -> None:
        super().__init__(message, status=status, needs_a_person=True)
        self.said = said
        self.dropped = dropped


class EnvelopeError(IngestdError):
    """A Kafka message does not match its topic's format; the error says why."""


class ConnectionLost(IngestdError):
    """The server did not answer. It is not known whether the last request took effect."""


class LiveServerError(IngestdError):
    """Redis cannot be reached, does not answer in time, or refuses the connection; ingestd reconnects."""


class Reaction(enum.Enum):
    """What a writer does after an error."""

    RETRY = "retry"  # send the same batch again after a delay; also for unknown errors, with an alarm
    DEDUPLICATE = "deduplicate"  # send the same batch again through the staging table
    REJECT_ROW = "reject_row"  # put the row into rejected_records: no such table could store it
    REJECT_AMONG_OTHERS = "reject_among_others"  # the same, unless the table refuses all of several rows
    RECONNECT = "reconnect"  # the schema changed under a cached statement: reconnect once, then pause
    PAUSE = "pause"  # nothing succeeds until an operator acts: long delays, alarms


# By the beginning of the SQLSTATE; the first match counts.
_SQLSTATE_REACTIONS: Mapping[Reaction, tuple[str, ...]] = {
    Reaction.DEDUPLICATE: ("23505",),
    Reaction.RECONNECT: ("22P03", "42703", "42P01", "42804", "0A000"),
    Reaction.REJECT_ROW: ("22", "54"),
    Reaction.REJECT_AMONG_OTHERS: ("21", "23", "44", "P000"),
    Reaction.PAUSE: ("28", "42501", "3D000"),
    Reaction.RETRY: ("08", "25006", "40", "53", "55P03", "57014", "57P", "58", "XX"),
}

# These codes concern the server, the session or the schema: no row is rejected for them, however often they come.
_NEVER_OF_A_ROW = frozenset({"08", "25", "28", "3D", "40", "42", "53", "55", "57", "58"})


def may_be_of_a_row(error: BaseException) -> bool:
    """Whether one of the rows sent may have caused this database error: by a wrong value, a table constraint, or in a
    way not foreseen here."""
    return isinstance(error, DatabaseError) and error.sqlstate[:2] not in _NEVER_OF_A_ROW


def reaction_to(error: BaseException) -> Reaction:
    """Decide what a writer does after `error`. Unknown errors are retried; no record is dropped for them."""
    if isinstance(error, DatabaseError):
        for reaction, prefixes in _SQLSTATE_REACTIONS.items():
            if error.sqlstate.startswith(prefixes):
                return reaction
    if isinstance(error, (AccessRefused, NotIdempotent)):
        return Reaction.PAUSE
    if isinstance(error, InfluxError) and error.needs_a_person:
        return Reaction.PAUSE
    return Reaction.RETRY


def is_known(error: BaseException) -> bool:
    """Whether `error` is foreseen above; other errors raise an alarm besides being retried."""
    if isinstance(error, DatabaseError):
        return any(error.sqlstate.startswith(prefixes) for prefixes in _SQLSTATE_REACTIONS.values())
    if isinstance(error, KafkaError):
        return error.retriable or isinstance(error, (MessageTooLarge, ProducerFenced, NotIdempotent, AccessRefused))
    return isinstance(error, (InfluxError, ConnectionLost, OSError, TimeoutError))


def is_away(error: BaseException) -> bool:
    """Whether the server is unavailable now: it does not answer, or it is stopping or starting."""
    return isinstance(error, ConnectionLost) or (isinstance(error, DatabaseError) and error.sqlstate.startswith("57P"))


_COPY_LINE = re.compile(r"^COPY [^,]+, line (\d+)[,:]", re.MULTILINE)


def copy_line(context: str) -> int | None:
    """The 1-based row that made a COPY fail, read from the server's CONTEXT line; None if it does not say.

    It is certain only if the server quotes the row: `COPY trades, line 777, column price: "NaNN"`. A bare line number
    may be that of the last row read, while the server was storing earlier ones.
    """
    match = _COPY_LINE.search(context)
    return int(match.group(1)) if match else None
