"""Liveness and readiness of the daemon, with reasons: two pure functions of a snapshot.

The daemon is live while a restart would not help: the event loop runs and no task has died. It is ready while data
flows into the journal. A sink that is down changes neither: the journal keeps what is not stored, so the daemon stays
ready and lists the sink under `degraded`. But it is not ready if a person must act: a sink's server refuses the same
records each time, a table does not keep its rows, or every record of a stream is rejected.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ingestd.channels import ROW_OF
from ingestd.records import FeedGap, StreamId
from ingestd.status import FeedStatus, SinkStatus, StreamStatus

LOOP_STALLED_S = 10.0
_POLLS_MISSED_WHEN_STALE = 3
_NAMED_AT_MOST = 3
GAPS_SHOWN_AT_MOST = 20


@dataclass(frozen=True, slots=True)
class FeedHealth:
    """A feed's status and the limits its configuration sets for it."""

    status: FeedStatus
    stale_after_s: float = 30.0
    poll_interval_s: float = 60.0
    book_interval_s: float = 0.0

    def is_silent(self, stream: StreamStatus, now_us: int) -> bool:
        """Whether it has been silent for over `stale_after_s`, or for three polls or two book samples if longer."""
        limit_s = self.stale_after_s
        if ROW_OF[stream.channel].is_polled:
            limit_s = max(limit_s, _POLLS_MISSED_WHEN_STALE * self.poll_interval_s)
        elif stream.channel == "order_book":
            limit_s = max(limit_s, 2 * self.book_interval_s)
        return stream.last_received_at is None or now_us - stream.last_received_at > limit_s * 1_000_000


@dataclass(frozen=True, slots=True)
class JournalHealth:
    """The journal's state. `full`: it accepts no more batches. `problem`: why the last append failed, if it did."""

    full: bool = False
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """A member of a consumer group: whether it has joined, whether the broker answers, its `problem` if any.

    The number of its partitions does not matter: there may be more members than partitions. `needed`: the daemon is
    not ready unless this member has joined.
    """

    name: str
    joined: bool
    problem: str | None = None
    needed: bool = True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The daemon's state at `now_us`. `journal` and `open_gaps` are None in the role `sink`. A standby has no `feeds`.

    It has more than 15 fields since each is one fact from which health is judged.
    """

    now_us: int
    started: bool
    stopping: bool = False
    loop_age_s: float = 0.0  # since the event loop last ran its heartbeat
    dead_tasks: Sequence[str] = ()
    feeds: Sequence[FeedHealth] = ()
    standby: str | None = None  # why it does not capture: another daemon does
    lease_problem: str | None = None  # why the lease cannot be renewed
    journal: JournalHealth | None = None
    sinks: Sequence[SinkStatus] = ()
    sources: Sequence[SourceHealth] = ()
    open_gaps: Collection[FeedGap] | None = None
    rejected: Mapping[StreamId, str] = field(default_factory=dict)  # streams of which every record is rejected, and why
    missing: Mapping[str, int] = field(default_factory=dict)  # rows that their table silently did not keep, by channel
    refused: Mapping[str, int] = field(default_factory=dict)  # rows that the database answered with an error
    upkeep_problems: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judgement. `reasons`: sentences that say why it is not `ok`. `degraded`: problems that do not affect `ok`."""

    ok: bool
    reasons: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()
    open_gaps: dict[str, object] | None = None

    def body(self) -> dict[str, object]:
        """The body of the endpoint's answer."""
        shown: dict[str, object] = {
            "status": "ok" if self.ok else "failing",
            "reasons": list(self.reasons),
            "degraded": list(self.degraded),
        }
        return shown if self.open_gaps is None else {**shown, "open_gaps": self.open_gaps}


def liveness(snapshot: Snapshot) -> Verdict:
    """Whether the daemon is alive; if not, a restart would help."""
    reasons = [f"The task {name} has died." for name in snapshot.dead_tasks]
    if snapshot.loop_age_s > LOOP_STALLED_S:
        reasons.append(f"The event loop has not run for {snapshot.loop_age_s:.0f} s.")
    return Verdict(not reasons, tuple(reasons))


def readiness(snapshot: Snapshot) -> Verdict:
    """Whether data flows into the journal and no person must act; see the module."""
    reasons: list[str] = []
    degraded: list[str] = []
    if snapshot.stopping:
        reasons.append("The daemon is stopping.")
    elif not snapshot.started:
        reasons.append("The daemon has not finished starting.")
    reasons.extend(f"The task {name} has died." for name in snapshot.dead_tasks)
    if snapshot.standby is not None:
        reasons.append(snapshot.standby)
    if snapshot.lease_problem is not None:
        degraded.append(f"The lease cannot be renewed: {snapshot.lease_problem}")
    reasons.extend(_journal_reasons(snapshot.journal))
    for source in snapshot.sources:
        if not source.joined:
            text = f"Kafka's topics of {source.name} are not read now{_because(source.problem)}."
            (reasons if source.needed else degraded).append(text)
        elif source.problem is not None:
            degraded.append(f"The source {source.name} has a problem: {source.problem}")
    for feed in snapshot.feeds:
        failing, limping = _feed_reasons(feed, snapshot.now_us)
        reasons.extend(failing)
        degraded.extend(limping)
    for sink in snapshot.sinks:
        if sink.problem:
            (reasons if sink.is_stuck else degraded).append(_sink_problem(sink))
    reasons.extend(_lost(snapshot))
    degraded.extend(
        f"The database refused {rows} {channel} records in the last minutes: they are in rejected_records, with its "
        "answer."
        for channel, rows in snapshot.refused.items()
    )
    degraded.extend(snapshot.upkeep_problems)
    gaps = None if snapshot.open_gaps is None else _open_gaps(snapshot.open_gaps, snapshot.now_us)
    return Verdict(not reasons, tuple(reasons), tuple(degraded), gaps)


def _sink_problem(sink: SinkStatus) -> str:
    if not sink.is_stuck:
        return f"The sink {sink.name} {'has a problem' if sink.up else 'is down'}: {sink.problem}"
    return (
        f"The sink {sink.name} stands still: the server refuses the same records each time: {sink.problem}. Nothing is "
        "given up: look at the table's constraints, indexes and triggers."
    )


def _lost(snapshot: Snapshot) -> list[str]:
    """Problems of records that were received and are in no table."""
    reasons = []
    if snapshot.rejected:
        streams = [
            f"{channel} {symbol} of {exchange} ({reason})"
            for (exchange, channel, symbol), reason in snapshot.rejected.items()
        ]
        reasons.append(
            f"Every record of {len(streams)} streams is rejected: {_first_few(streams)}. They are in "
            "rejected_records; too_far_ahead of a whole venue is a wrong clock, the venue's or this machine's."
        )
    reasons.extend(
        f"{rows} {channel} records were sent to the database and are not in its table: a trigger, a rule or a policy "
        "keeps them out."
        for channel, rows in snapshot.missing.items()
    )
    return reasons


def _open_gaps(gaps: Collection[FeedGap], now_us: int) -> dict[str, object]:
    """The number of open gaps, and the oldest ones.

    Open gaps do not affect readiness: they end with the next record, and a stream without records counts as silent.
    """
    oldest = heapq.nsmallest(GAPS_SHOWN_AT_MOST, gaps, key=lambda gap: gap.time)
    return {
        "count": len(gaps),
        "oldest": [
            {
                "exchange": gap.exchange,
                "channel": gap.channel,
                "symbol": gap.symbol,
                "open_s": max(0, now_us - gap.time) // 1_000_000,
                "cause": gap.cause,
                "detail": gap.detail,
            }
            for gap in oldest
        ],
    }


def _journal_reasons(journal: JournalHealth | None) -> list[str]:
    if journal is None:
        return []
    reasons = []
    if journal.full:
        reasons.append("The journal is full and takes no more: a sink has been down for long, or max_bytes is small.")
    if journal.problem is not None:
        reasons.append(f"The journal cannot be written: {journal.problem}")
    return reasons


def _feed_reasons(feed: FeedHealth, now_us: int) -> tuple[list[str], list[str]]:
    """Why the feed is not ready, and its problems that do not affect readiness."""
    status = feed.status
    refused = [stream for stream in status.streams if stream.quarantined is not None]
    served = [stream for stream in status.streams if stream.quarantined is None]
    expected = [stream for stream in served if not ROW_OF[stream.channel].may_be_silent]
    silent = [stream for stream in expected if feed.is_silent(stream, now_us)]
    if not status.streams:
        return [f"The feed {status.label} has subscribed to nothing yet{_because(status.problem)}."], []
    if not served:
        return [f"{status.label} refuses every symbol of its feed: {_named(refused)}."], []
    if expected and len(silent) == len(expected):
        return [f"The feed {status.label} is silent: none of its {len(expected)} streams is fresh."
                f"{_sentence(status.problem)}"], []  # fmt: skip
    limping = []
    if not status.connected:
        limping.append(f"The feed {status.label} is not connected and dials again{_because(status.problem)}.")
    elif status.problem is not None:
        limping.append(f"The feed {status.label} has a problem: {status.problem}")
    if silent:
        limping.append(f"{len(silent)} of {len(expected)} streams of {status.label} are silent: {_named(silent)}.")
    if refused:
        limping.append(f"{status.label} refuses {len(refused)} streams: {_named(refused)}.")
    return [], limping


def _named(streams: Sequence[StreamStatus]) -> str:
    return _first_few([f"{stream.channel} {stream.symbol}{_because(stream.quarantined)}" for stream in streams])


def _first_few(texts: Sequence[str]) -> str:
    left = len(texts) - _NAMED_AT_MOST
    return ", ".join(texts[:_NAMED_AT_MOST]) + (f" and {left} more" if left > 0 else "")


def _because(problem: str | None) -> str:
    return f" ({problem.rstrip('.')})" if problem else ""


def _sentence(problem: str | None) -> str:
    return f" {problem.rstrip('.')}." if problem else ""
