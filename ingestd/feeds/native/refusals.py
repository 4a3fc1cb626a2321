"""Finds which streams of a socket the exchange refuses, even if it does not name them. Pure: the caller has the clock.

A refusal that names a market concerns the silent streams of that market. A refusal that names none starts a search:
each silent stream is requested alone, so that the exchange's answer can only be about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from ingestd.feeds.native.subscriptions import ANSWER_WITHIN_S
from ingestd.feeds.streams.ledger import Stream
from ingestd.feeds.streams.quarantine import Quarantine
from ingestd.venues.messages import Notice
from ingestd.venues.venue import Asked

log = structlog.get_logger()

CONSENT_WITHIN_S = 0.5  # after an unnamed refusal, which may be about another request, wait this long for consent


class Refusal(NamedTuple):
    """A refused stream, with the exchange's text. `is_quarantined`: it has been refused often enough for that."""

    asked: Asked
    text: str
    is_quarantined: bool


@dataclass(slots=True)
class _Question:
    """A stream that was requested alone, and the exchange's answers since."""

    asked: Asked
    received: int  # records that the stream had delivered by the time of the request
    answer_by_s: float
    refusal: str | None = None
    consents: bool = False


class Refusals:
    """Finds the refused ones of `streams` and decides when each may be requested again.

    Call `release` and `judge` before every subscribe request. If there is a `suspect`, request it alone, and nothing
    else while `awaits_answer`.
    """

    def __init__(self, streams: Mapping[Asked, Stream], *, feed: str, url: str) -> None:
        self._streams = streams
        self._feed = feed
        self._url = url
        self._heard: list[Notice] = []  # not judged yet
        self._quarantines: dict[Asked, Quarantine] = {}  # of refused streams
        self._held: dict[Asked, None] = {}  # must not be requested yet
        self._suspects: dict[Asked, None] = {}  # must be requested alone
        self._question: _Question | None = None

    @property
    def suspect(self) -> Asked | None:
        return next(iter(self._suspects), None)

    @property
    def awaits_answer(self) -> bool:
        """Whether a stream was requested alone and the exchange has not answered yet."""
        return self._question is not None

    def holds(self, asked: Asked) -> bool:
        """Whether this stream must not be requested together with others."""
        return asked in self._held or asked in self._suspects

    def heard(self, refusal: Notice) -> None:
        self._heard.append(refusal)

    def consented(self) -> None:
        """Note that the exchange has accepted a subscription."""
        if self._question is not None:
            self._question.consents = True

    def asked_alone(self, asked: Asked, now_s: float) -> None:
        self._suspects.pop(asked, None)
        if asked in self._streams:
            self._question = _Question(asked, self._streams[asked].received, now_s + ANSWER_WITHIN_S)

    def due_in_s(self, now_s: float) -> float:
        """Seconds until `judge` must be called even without an answer; infinite if no answer is awaited."""
        return max(0.0, self._question.answer_by_s - now_s) if self._question is not None else float("inf")

    def release(self, now_s: float) -> list[Asked]:
        """Turn held streams whose quarantine is over into suspects. Return held streams that deliver after all."""
        delivering = []
        for asked in list(self._held):
            quarantine, received = self._quarantines[asked], self._streams[asked].received
            if quarantine.has_delivered(received):
                del self._quarantines[asked]
                delivering.append(asked)
            elif quarantine.left_s(received, now_s) > 0:
                continue
            else:
                self._suspects[asked] = None
            del self._held[asked]
        return delivering

    def judge(self, silent: Sequence[Asked], now_s: float, *, nothing_delivers: bool) -> list[Refusal]:
        """Return the streams refused since the last call, and hold them back from now on.

        `silent`: streams that have not delivered since they were requested. `nothing_delivers`: all are silent.
        """
        heard, self._heard = self._heard, []
        refused = {asked: one.text for one in heard for asked in silent if asked.market_id == one.market_id}
        unnamed = next((one.text for one in heard if one.market_id is None), None)
        question = self._question
        if question is not None:
            if unnamed is not None and question.refusal is None:
                question.refusal = unnamed
                question.answer_by_s = min(question.answer_by_s, now_s + CONSENT_WITHIN_S)
            if question.asked in refused or self._is_served(question):
                self._question = None
            elif now_s >= question.answer_by_s:
                self._question = None
                if question.refusal is not None:
                    refused[question.asked] = question.refusal
        elif unnamed is not None:
            suspects = [asked for asked in silent if asked not in refused]
            log.info("refusal_searched", feed=self._feed, url=self._url, streams=len(suspects), text=unnamed)
            self._suspects.update(dict.fromkeys(suspects))
        return [self._count(asked, text, now_s, nothing_delivers) for asked, text in refused.items()]

    def socket_lost(self, now_s: float) -> None:
        """Forget the refusals of a lost socket and shorten quarantines: the next socket may get other answers."""
        self._heard.clear()
        self._question = None
        for quarantine in self._quarantines.values():
            quarantine.socket_lost()
        self.release(now_s)

    def drop(self, asked: Asked) -> None:
        self._quarantines.pop(asked, None)
        self._held.pop(asked, None)
        self._suspects.pop(asked, None)

    def _is_served(self, question: _Question) -> bool:
        """Whether the exchange accepted the stream that was requested alone, or the stream is no longer wanted."""
        stream = self._streams.get(question.asked)
        return question.consents or stream is None or stream.received != question.received

    def _count(self, asked: Asked, text: str, now_s: float, nothing_delivers: bool) -> Refusal:
        quarantine = self._quarantines.setdefault(asked, Quarantine())
        is_quarantined = quarantine.refused(self._streams[asked].received, now_s)
        if is_quarantined:
            quarantine.begin(now_s, nothing_delivers=nothing_delivers)
        self._held[asked] = None
        self._suspects.pop(asked, None)
        return Refusal(asked, text or "refused by the venue", is_quarantined)
