"""When the daemon counts as alive and as ready, and what it says about why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ingestd.ops.health import (
    FeedHealth,
    JournalHealth,
    Snapshot,
    SourceHealth,
    Verdict,
    liveness,
    readiness,
)
from ingestd.records import FeedGap
from ingestd.status import FeedStatus, SinkStatus, StreamStatus

NOW = 1_800_000_000_000_000


def stream(
    symbol: str = "BTC/USDT", *, age_s: float | None = 1, channel: str = "trades", refused: str | None = None
) -> StreamStatus:
    last = None if age_s is None else NOW - int(age_s * 1_000_000)
    return StreamStatus(channel, symbol, last_received_at=last, quarantined=refused)


def feed(*streams: StreamStatus, connected: bool = True, problem: str | None = None) -> FeedHealth:
    return FeedHealth(
        FeedStatus("kraken", connected, problem, streams=list(streams)), stale_after_s=30, poll_interval_s=60
    )


HEALTHY = Snapshot(
    now_us=NOW,
    started=True,
    feeds=(feed(stream()),),
    journal=JournalHealth(),
    sinks=(SinkStatus("timescale"), SinkStatus("redis")),
)


def test_a_healthy_daemon_is_alive_and_ready() -> None:
    assert liveness(HEALTHY).ok
    assert readiness(HEALTHY).body() == {"status": "ok", "reasons": [], "degraded": []}


@pytest.mark.parametrize(
    "snapshot",
    [
        replace(HEALTHY, started=False),
        replace(HEALTHY, stopping=True),
        replace(HEALTHY, journal=JournalHealth(full=True, problem="disk full")),
        replace(HEALTHY, feeds=(feed(connected=False, problem="refused"),)),
        replace(HEALTHY, sinks=(SinkStatus("timescale", problem="down"),)),
    ],
)
def test_nothing_a_restart_would_not_cure_ends_liveness(snapshot: Snapshot) -> None:
    assert liveness(snapshot).ok


def test_a_dead_task_ends_liveness_and_readiness_by_name() -> None:
    snapshot = replace(HEALTHY, dead_tasks=("sink timescale",))
    assert liveness(snapshot).reasons == readiness(snapshot).reasons == ("The task sink timescale has died.",)


@pytest.mark.parametrize(("age_s", "alive"), [(0, True), (9.9, True), (10.1, False)])
def test_a_loop_that_stands_still_ends_liveness(age_s: float, alive: bool) -> None:
    assert liveness(replace(HEALTHY, loop_age_s=age_s)).ok is alive


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"started": False}, "The daemon has not finished starting."),
        ({"stopping": True}, "The daemon is stopping."),
        ({"stopping": True, "started": False}, "The daemon is stopping."),
        (
            {"journal": JournalHealth(full=True)},
            "The journal is full and takes no more: a sink has been down for long, or max_bytes is small.",
        ),
        ({"journal": JournalHealth(problem="disk I/O error")}, "The journal cannot be written: disk I/O error"),
        ({"feeds": (feed(),)}, "The feed kraken has subscribed to nothing yet."),
        (
            {"feeds": (feed(connected=False, problem="No address associated with hostname."),)},
            "The feed kraken has subscribed to nothing yet (No address associated with hostname).",
        ),
        (
            {"feeds": (feed(stream(age_s=31), stream("ETH/USDT", age_s=None), problem="Dialling"),)},
            "The feed kraken is silent: none of its 2 streams is fresh. Dialling.",
        ),
        (
            {"feeds": (feed(stream("NO/PE", refused="no such market")),)},
            "kraken refuses every symbol of its feed: trades NO/PE (no such market).",
        ),
        (
            {"sinks": (SinkStatus("market", problem="trades takes none of the 5 rows", is_stuck=True),)},
            "The sink market stands still: the server refuses the same records each time: trades takes none of the 5 "
            "rows. Nothing is given up: look at the table's constraints, indexes and triggers.",
        ),
    ],
)
def test_what_ends_readiness_is_a_sentence(change: dict[str, object], reason: str) -> None:
    verdict = readiness(replace(HEALTHY, **change))  # type: ignore[arg-type]
    assert not verdict.ok
    assert verdict.reasons == (reason,)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sinks": (SinkStatus("timescale", problem="no answer."),)}, "The sink timescale is down: no answer."),
        (
            {"sinks": (SinkStatus("redis", problem="out of memory", up=True),)},
            "The sink redis has a problem: out of memory",
        ),
        ({"sources": (SourceHealth("events", True, "no topic"),)}, "The source events has a problem: no topic"),
        (
            {"feeds": (feed(stream(), connected=False, problem="closed by peer"),)},
            "The feed kraken is not connected and dials again (closed by peer).",
        ),
        ({"feeds": (feed(stream(), problem="slow"),)}, "The feed kraken has a problem: slow"),
        (
            {"feeds": (feed(stream(), stream("A/B", age_s=99)),)},
            "1 of 2 streams of kraken are silent: trades A/B.",
        ),
        (
            {"feeds": (feed(stream(), *(stream(f"S{n}", refused="delisted") for n in range(5))),)},
            "kraken refuses 5 streams: trades S0 (delisted), trades S1 (delisted), trades S2 (delisted) and 2 more.",
        ),
    ],
)
def test_what_the_journal_bridges_is_only_degraded(change: dict[str, object], sentence: str) -> None:
    verdict = readiness(replace(HEALTHY, **change))  # type: ignore[arg-type]
    assert verdict.ok
    assert verdict.degraded == (sentence,)


def test_one_dead_feed_does_not_hide_behind_another() -> None:
    assert not readiness(replace(HEALTHY, feeds=(feed(stream()), feed(stream(age_s=None))))).ok


@pytest.mark.parametrize(("channel", "fresh"), [("trades", False), ("funding", True), ("open_interest", True)])
def test_a_polled_stream_may_be_silent_for_three_polls(channel: str, fresh: bool) -> None:
    snapshot = replace(HEALTHY, feeds=(feed(stream(age_s=170, channel=channel)),))
    assert readiness(snapshot).ok is fresh


def test_the_role_without_feeds_and_journal_is_ready_once_started() -> None:
    assert readiness(Snapshot(now_us=NOW, started=True, sinks=(SinkStatus("timescale"),))).ok


def test_a_source_that_is_no_member_is_not_ready() -> None:
    snapshot = Snapshot(
        now_us=0,
        started=True,
        sinks=[SinkStatus("market", problem="the server does not answer")],
        sources=[
            SourceHealth("market", joined=True),
            SourceHealth("events", joined=False, problem="no broker answers"),
        ],
    )
    verdict = readiness(snapshot)
    assert verdict.reasons == ("Kafka's topics of events are not read now (no broker answers).",)
    assert verdict.degraded == ("The sink market is down: the server does not answer",)


def test_open_gaps_are_shown_oldest_first_and_bounded_and_make_nothing_unready() -> None:
    gaps = [
        FeedGap("kraken", f"S{number}/USD", 1_000_000 * number, 0, "trades", None, "disconnect", "reset")
        for number in range(100, 0, -1)
    ]
    verdict = readiness(replace(HEALTHY, now_us=200_000_000, open_gaps=gaps, feeds=()))
    shown: Any = verdict.body()["open_gaps"]
    assert verdict.ok
    assert shown["count"] == 100
    assert [gap["open_s"] for gap in shown["oldest"]] == list(range(199, 179, -1))
    assert shown["oldest"][0] == {
        "exchange": "kraken",
        "channel": "trades",
        "symbol": "S1/USD",
        "open_s": 199,
        "cause": "disconnect",
        "detail": "reset",
    }


def test_a_role_without_feeds_says_nothing_of_gaps() -> None:
    assert "open_gaps" not in readiness(HEALTHY).body()


def test_a_standby_is_alive_and_not_ready_and_says_who_leads() -> None:
    standing = Snapshot(now_us=0, started=True, standby="This is a standby: host-a holds the lease desk.")
    assert liveness(standing).ok
    assert readiness(standing).reasons == ("This is a standby: host-a holds the lease desk.",)


def test_a_leader_that_cannot_renew_goes_on_and_says_so() -> None:
    verdict = readiness(Snapshot(now_us=0, started=True, lease_problem="no connection"))
    assert verdict.ok
    assert verdict.degraded == ("The lease cannot be renewed: no connection",)


def test_records_that_are_received_and_stored_nowhere_make_it_unready() -> None:
    rejected = {("binance", "trades", "BTC/USDT"): "too_far_ahead"}
    verdict = readiness(replace(HEALTHY, rejected=rejected))
    assert not verdict.ok
    assert "trades BTC/USDT of binance (too_far_ahead)" in verdict.reasons[0]

    verdict = readiness(replace(HEALTHY, missing={"trades": 609}))
    assert not verdict.ok
    assert verdict.reasons[0].startswith("609 trades records were sent to the database and are not in its table")


def test_upkeep_that_keeps_failing_is_said() -> None:
    problem = "The upkeep of the database fails at refresh_candles (2 in a row): permission denied"
    verdict = readiness(replace(HEALTHY, upkeep_problems=[problem]))
    assert verdict.ok
    assert verdict.degraded == (problem,)


def test_rows_that_the_database_refuses_are_said() -> None:
    verdict = readiness(replace(HEALTHY, refused={"trades": 12}))
    assert verdict.ok
    assert verdict.degraded[0].startswith("The database refused 12 trades records")


def test_a_book_is_silent_once_two_samples_of_it_are_due() -> None:
    def verdict(age_s: float) -> Verdict:
        books = replace(feed(stream(age_s=age_s, channel="order_book")), book_interval_s=60.0)
        return readiness(replace(HEALTHY, feeds=(books,)))

    assert verdict(119).ok
    assert not verdict(121).ok


def test_the_silence_of_liquidations_says_nothing() -> None:
    forced = stream(channel="liquidations", age_s=None)
    assert readiness(replace(HEALTHY, feeds=(feed(forced),))).body()["degraded"] == []
    assert readiness(replace(HEALTHY, feeds=(feed(forced, stream()),))).body()["degraded"] == []


def test_a_feed_whose_other_streams_are_silent_is_silent_whatever_liquidations_it_brings() -> None:
    brought = stream(channel="liquidations", age_s=1)
    verdict = readiness(replace(HEALTHY, feeds=(feed(brought, stream(age_s=None)),)))
    assert verdict.reasons == ("The feed kraken is silent: none of its 1 streams is fresh.",)
