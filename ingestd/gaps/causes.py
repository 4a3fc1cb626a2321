"""Every cause that a gap can have, and what it means for a person who reads the row."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ingestd.channels import NOT_SERVED

DISCONNECT = "disconnect"
STALE = "stale"
STREAM_SILENT = "stream_silent"
NOT_SUBSCRIBED = "not_subscribed"
POLL_FAILED = "poll_failed"
ID_JUMP = "id_jump"
BOOK_BROKEN = "book_broken"
BOOK_NOT_LOADED = "book_not_loaded"
RESTART = "restart"
SHUTDOWN = "shutdown"
DROPPED = "dropped"
CANDLE_AUDIT = "candle_audit"
TAKEOVER = "takeover"
UNLISTED = "unlisted"

OVER_AFTER_US = 86_400_000_000
"""A closed or unlisted market that has been silent for this long counts as over: halts and maintenance are shorter."""
UNLISTED_DETAIL = "the venue's list of markets lacked it, or called it closed"
OVER_DETAIL = (
    "the market was silent for a day or has expired, so it counts as closed, and nothing is missing after that"
)


@dataclass(frozen=True, slots=True)
class Explanation:
    """`meaning`: what happened. `remedy`: what a person can do about it."""

    meaning: str
    remedy: str


CAUSES: Mapping[str, Explanation] = {
    DISCONNECT: Explanation(
        "The connection to the venue was lost; it was dialled again.",
        "Occasional ones are normal: the venue closes connections. Many in an hour: look at the network and the "
        "venue's status page.",
    ),
    STALE: Explanation(
        "The connection was open and carried nothing for stale_after_s; it was given up and dialled again.",
        "If the market is merely quiet, raise stale_after_s of its feed.",
    ),
    STREAM_SILENT: Explanation(
        "The open connection delivered nothing of this stream although, by its REST interface, the venue had new data. "
        "Only this stream was subscribed again.",
        "Occasional ones are normal: venues lose single subscriptions. Many of one venue: follow fewer symbols on a "
        "connection, or report it to the venue.",
    ),
    NOT_SUBSCRIBED: Explanation(
        "The stream could not be asked for: the venue refused it, or a step before its socket failed, such as "
        "loading the markets. It is asked for again without end.",
        "The detail has the venue's answer. A wrong symbol or channel: take it out of the configuration.",
    ),
    POLL_FAILED: Explanation(
        "A REST request for this channel failed, or was answered without a value, so a sample is missing.",
        "Rate limits: raise poll_interval_s, or follow fewer symbols from this address.",
    ),
    ID_JUMP: Explanation(
        "The venue numbers its trades without holes, and numbers were left out on an open connection.",
        "The detail names the missing trade ids. The venue did not send them to this connection.",
    ),
    BOOK_BROKEN: Explanation(
        "An order book was wrong: its sequence, its checksum or an audit said so. It was asked for again.",
        "Now and then: nothing, only that book was interrupted. Many of one venue: its stream loses updates.",
    ),
    BOOK_NOT_LOADED: Explanation(
        "The REST snapshot with which an order book begins could not be loaded. It is asked for again without end.",
        "The detail has the venue's answer. Rate limits: follow fewer order books from this address.",
    ),
    RESTART: Explanation(
        "ingestd was not running, from what it had last made durable to the first delivery afterwards.",
        "Planned: nothing. Unplanned: the log and the service manager say why the process ended.",
    ),
    SHUTDOWN: Explanation(
        "At the stop, records that had been received could not be journaled any more; what follows until the next "
        "start is missing too.",
        "The journal refused: look for journal_refuses in the log, free disk space or bring the sink back.",
    ),
    DROPPED: Explanation(
        "Records that had been received were given up because there was no room for them, or a journal file was "
        "damaged before they were stored.",
        "Bring the slow sink back, or raise journal.max_bytes. With `journal.when_full = block` and "
        "`intake.when_full` set to `block`, nothing is given up. Damage: look at the disk; what is left of the file is "
        "in the journal's bad/.",
    ),
    TAKEOVER: Explanation(
        "The daemon that captured before was gone or frozen, and this one took its place.",
        "Planned: nothing. Unplanned: the detail names who was the leader; its log says why it ended.",
    ),
    UNLISTED: Explanation(
        "The venue's list of markets calls the market closed or lacks it, or names it otherwise. It stays subscribed.",
        "Look whether the venue still trades it. If it does not: take the symbol out of the configuration.",
    ),
    CANDLE_AUDIT: Explanation(
        "Our candle of this minute differs from the venue's own, so trades of it may be missing.",
        "Backfill asks for them. If it finds none, the two candles are in the table candle_audit: compare them.",
    ),
}

_STATUSES: Mapping[str, str] = {
    "open": "open: it has not ended; the stream has not delivered since.",
    "filled": "filled: what was missing was fetched; `recovered` says how many rows.",
    "unfillable": "unfillable: the venue does not give it afterwards; the detail says why.",
}
_CLOSED = "closed: it has ended, and what is missing has not been fetched yet; backfill asks the venue for it in turn."
_CLOSED_FOR_GOOD = (
    f"closed, of {', '.join(NOT_SERVED[:-1])} or {NOT_SERVED[-1]}: it has ended, and what is missing cannot be fetched "
    "afterwards, because no venue serves the past of these channels. It stays closed; there is nothing to do."
)

UNKNOWN = Explanation("A cause this version does not know.", "Use the version that wrote it.")


def explanation(cause: str) -> Explanation:
    """What a cause means, and what to do about it."""
    return CAUSES.get(cause, UNKNOWN)


def status_meanings(status: str, channels: Collection[str]) -> list[str]:
    """Sentences that say what a gap's status means in these channels, or in all channels if none are given."""
    if status != "closed":
        return [_STATUSES[status]] if status in _STATUSES else []
    meanings = {_CLOSED_FOR_GOOD if channel in NOT_SERVED else _CLOSED for channel in channels}
    return sorted(meanings or {_CLOSED, _CLOSED_FOR_GOOD}, key=len)
