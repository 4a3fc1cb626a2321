"""The suite's own reader of topics: what passes at a broker fails no test, and what is missing does."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from tests.support import topics

PASSING = [KafkaError._UNKNOWN_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError._TRANSPORT]


class Told:
    """In the place of a message, where there is none."""

    def __init__(self, code: int) -> None:
        self._error = KafkaError(code)

    def error(self) -> KafkaError:
        return self._error


class Good:
    """The only message of a topic."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def error(self) -> None:
        return None

    def topic(self) -> str:
        return "p.market.trades"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, 0

    def key(self) -> bytes:
        return b"k"

    def value(self) -> bytes:
        return b"v"

    def headers(self) -> list[tuple[str, bytes]]:
        return []


def client(offsets: list[int], end: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client whose every call first tells of what passes."""

    def answers(value: Any) -> Iterator[Any]:
        yield from (KafkaException(KafkaError(code)) for code in PASSING)
        while True:
            yield value

    known = {"p.market.trades": SimpleNamespace(partitions={0: None})}
    listed, ends = answers(SimpleNamespace(topics=known)), answers((0, end))
    given: Iterator[list[Any]] = iter([[Told(code) for code in PASSING], [Good(offset) for offset in offsets]])

    def say(replies: Iterator[Any]) -> Any:
        if isinstance(reply := next(replies), Exception):
            raise reply
        return reply

    class Client:
        def __init__(self, config: dict[str, object]) -> None:
            self.config = config

        knows_the_leader = False

        def list_topics(self, topic: str | None = None, timeout: float = -1) -> Any:  # the client's signature
            if topic is None:
                return say(listed)
            self.knows_the_leader = True
            return SimpleNamespace(topics=known)

        def get_watermark_offsets(self, place: object, timeout: float) -> Any:
            """What it was told while none led the partition, it says again until it looks anew."""
            if not self.knows_the_leader:
                raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION))
            self.knows_the_leader = False
            return say(ends)

        def assign(self, places: object) -> None:
            pass

        def consume(self, count: int, timeout: float) -> list[Any]:
            return next(given, [])

        def close(self) -> None:
            pass

    monkeypatch.setattr(topics, "Consumer", Client)


def test_what_passes_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    client([0, 1], end=2, monkeypatch=monkeypatch)
    assert [read.offset for read in topics.read_everything("b:1", "p")["p.market.trades", 0]] == [0, 1]


@pytest.mark.parametrize("offsets", [[0], [1], []])
def test_what_is_missing_is_told_with_what_the_client_said(offsets: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    client(offsets, end=2, monkeypatch=monkeypatch)
    with pytest.raises(AssertionError, match=r"UNKNOWN_PARTITION|are left out"):
        topics.read_everything("b:1", "p", timeout_s=0.3)
