"""The periodic work of a feed: settles trade ids, samples and audits order books, watches for silent streams."""

from __future__ import annotations

import asyncio
from typing import Protocol

from ingestd.clock import monotonic_s, now_us
from ingestd.feeds.recording.book_audit import AuditedBooks, BookAuditor
from ingestd.feeds.recording.recorder import Recorder
from ingestd.feeds.recording.silence_watch import SilenceWatch, WatchedConnections
from ingestd.feeds.stopping import Stop
from ingestd.feeds.streams.silence import Newest

SETTLE_EVERY_S = 1.0
_IDS_SETTLE_US = 1_000_000  # a frame is complete so long after it began


class SupervisedSession(WatchedConnections, AuditedBooks, Protocol):
    """The connections of a feed, and its order books."""


async def supervise(
    recorder: Recorder, session: SupervisedSession, newest: Newest | None, stop: Stop, *, has_books: bool
) -> None:
    """Do the periodic work of a feed until the stop.

    `newest`: asks the exchange what is newest (None: silent streams are not looked for). `has_books`: whether the
    session has order books.
    """
    config, label = recorder.config, recorder.config.label
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_settle_ids(recorder, stop), name=f"{label} ids")
        if newest is not None:
            tasks.create_task(SilenceWatch(newest, recorder, session).run(stop), name=f"{label} silence")
        if has_books and config.order_book_interval_ms:
            tasks.create_task(_sample_books(recorder, stop), name=f"{label} books")
        if has_books and config.book_audit_interval_s:
            tasks.create_task(BookAuditor(recorder, session).run(stop), name=f"{label} book audit")


async def _settle_ids(recorder: Recorder, stop: Stop) -> None:
    while await stop.sleep(SETTLE_EVERY_S):
        recorder.ledger.settle_ids(now_us() - _IDS_SETTLE_US)


async def _sample_books(recorder: Recorder, stop: Stop) -> None:
    interval_s = recorder.config.order_book_interval_ms / 1000
    due_s = monotonic_s() + interval_s
    while await stop.sleep(max(0.0, due_s - monotonic_s())):
        recorder.sample_books()
        due_s = max(due_s + interval_s, monotonic_s())
