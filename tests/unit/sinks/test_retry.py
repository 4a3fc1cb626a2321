"""What the log says of a server that is away: its beginning, when it is tried again, and now and then that it lasts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from ingestd.errors import ConnectionLost, DatabaseError
from ingestd.ops.metrics import Metrics
from ingestd.sinks import retry


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (["nothing listens"] * 33, [1, 13, 25]),  # an attempt every five seconds
        (["the connection is gone", *["nothing listens"] * 16], [1, 2, 13]),
        (["a", "b", "a", "b", "a", "b"], [1, 2]),
    ],
)
async def test_one_line_for_one_outage(said: list[str], told: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    clock_s = -5.0
    monkeypatch.setattr(retry, "RETRY_CAP_S", 0.0)
    monkeypatch.setattr("ingestd.log_limit.monotonic_s", lambda: clock_s)
    answers = iter(said)

    async def connect() -> Any:
        nonlocal clock_s
        clock_s += 5.0
        if (text := next(answers, None)) is not None:
            raise ConnectionLost(text)
        return SimpleNamespace(is_closed=False, terminate=lambda: None)

    async def attempt(_: Any) -> None:
        """Works once there is a connection."""

    work = retry.PersistentWriter("timescale", connect, Metrics(), lambda: 7)
    with capture_logs() as lines:
        assert await work.until_done(attempt)
    failed = [line for line in lines if line["event"] == "sink_write_failed"]
    assert [line["attempts"] for line in failed] == told
    assert all(line["retry_in_s"] >= 0 for line in failed)
    assert [line["after_attempts"] for line in lines if line["event"] == "sink_writes_again"] == [len(said)]


@pytest.mark.parametrize("logs_outages", [True, False])
async def test_an_outage_and_its_end_are_told_by_one_of_those_that_use_the_server(
    logs_outages: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "RETRY_CAP_S", 0.0)
    answers = iter([ConnectionLost("nothing listens"), DatabaseError("it starts", sqlstate="57P03"), None])

    async def connect() -> Any:
        if (error := next(answers)) is not None:
            raise error
        return SimpleNamespace(is_closed=False, terminate=lambda: None)

    async def attempt(_: Any) -> None:
        """Works once there is a connection."""

    work = retry.PersistentWriter("events", connect, Metrics(), lambda: 558, logs_outages=logs_outages)
    with capture_logs() as lines:
        assert await work.until_done(attempt)
    assert [line["event"] for line in lines if line["log_level"] != "debug"] == (
        ["sink_write_failed", "sink_write_failed", "sink_writes_again"] if logs_outages else []
    )
    assert 0 <= lines[-1]["after_s"] < 60
    assert lines[-1]["records_to_catch_up"] == 558
