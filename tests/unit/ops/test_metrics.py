"""What a scrape shows of the feeds and the process."""

from __future__ import annotations

import re
from pathlib import Path

from ingestd import __version__
from ingestd.ops.metrics import FeedCollector, Metrics, count_by
from ingestd.status import FeedStatus, StreamStatus
from tests.support.exposed import exposed


def samples(metrics: Metrics) -> dict[str, float]:
    found = re.findall(r"^([^#\s].*) (\S+)$", exposed(metrics), re.MULTILINE)
    assert len(found) == len({name for name, _ in found}), "no series may appear twice"
    return {name: float(value) for name, value in found}


def test_feeds_are_read_at_the_scrape() -> None:
    status = FeedStatus("kraken", streams=[StreamStatus("trades", "BTC/USD")])
    metrics = Metrics()
    metrics.watch_feed(lambda: status)
    before = samples(metrics)
    assert before['ingestd_feed_connected{feed="kraken"}'] == 0
    assert before['ingestd_feed_last_received_timestamp_seconds{feed="kraken"}'] == 0
    status.connected, status.disconnects, status.stale_reconnects, status.malformed_frames = True, 4, 3, 2
    status.streams[0].last_received_at = 1_700_000_000_500_000
    after = samples(metrics)
    stream = '{channel="trades",exchange="kraken",symbol="BTC/USD"}'
    assert after[f"ingestd_stream_last_received_timestamp_seconds{stream}"] == 1_700_000_000.5
    assert after['ingestd_feed_last_received_timestamp_seconds{feed="kraken"}'] == 1_700_000_000.5
    assert after['ingestd_feed_connected{feed="kraken"}'] == 1
    assert after['ingestd_feed_disconnects_total{feed="kraken"}'] == 4
    assert after['ingestd_feed_stale_reconnects_total{feed="kraken"}'] == 3
    assert after['ingestd_feed_malformed_frames_total{feed="kraken"}'] == 2


def test_rendering_alone_shows_the_last_capture() -> None:
    status = FeedStatus("kraken")
    metrics = Metrics()
    metrics.watch_feed(lambda: status)
    metrics.capture()
    metrics.watch_feed(lambda: FeedStatus("binance"))
    shown = metrics.render()
    assert b'ingestd_feed_connected{feed="kraken"}' in shown
    assert b"binance" not in shown


def test_quarantined_streams_are_counted_apart() -> None:
    metrics = Metrics()
    streams = [StreamStatus("trades", "A"), StreamStatus("trades", "B", quarantined="no such market")]
    metrics.watch_feed(lambda: FeedStatus("kraken", streams=streams))
    shown = samples(metrics)
    assert shown['ingestd_feed_streams{feed="kraken"}'] == 1
    assert shown['ingestd_feed_quarantined{feed="kraken"}'] == 1


def test_two_feeds_of_one_exchange_are_one_series() -> None:
    def one(connected: bool, at: int) -> FeedStatus:
        return FeedStatus(
            "kraken", connected, disconnects=2, streams=[StreamStatus("trades", "A", last_received_at=at)]
        )

    metrics = Metrics()
    metrics.watch_feed(lambda: one(True, 5_000_000))
    metrics.watch_feed(lambda: one(False, 9_000_000))
    shown = samples(metrics)
    assert shown['ingestd_feed_connected{feed="kraken"}'] == 0
    assert shown['ingestd_feed_disconnects_total{feed="kraken"}'] == 4
    key = 'ingestd_stream_last_received_timestamp_seconds{channel="trades",exchange="kraken",symbol="A"}'
    assert shown[key] == 9


def test_streams_beyond_the_limit_are_counted_not_shown() -> None:
    streams = [StreamStatus("trades", f"S{number}", last_received_at=number) for number in range(7)]
    collector = FeedCollector(max_streams=5)
    collector.capture([FeedStatus("kraken", streams=streams)])
    families = {family.name: family.samples for family in collector.collect()}
    assert len(families["ingestd_stream_last_received_timestamp_seconds"]) == 5
    assert families["ingestd_stream_series_left_out"][0].value == 2
    assert families["ingestd_feed_last_received_timestamp_seconds"][0].value == 6e-06


def test_label_values_are_escaped() -> None:
    metrics = Metrics()
    metrics.watch_feed(lambda: FeedStatus("k", streams=[StreamStatus("trades", 'A"\n} 1')]))
    assert r'symbol="A\"\n} 1"' in exposed(metrics)


def test_the_build_and_the_process_are_shown() -> None:
    text = exposed(Metrics())
    assert f'version="{__version__}"' in text
    assert "process_resident_memory_bytes" in text


def test_counts_are_added_by_label_and_summed() -> None:
    metrics = Metrics()
    count_by(metrics.received, {("kraken", "trades"): 3, ("binance", "trades"): 4, ("kraken", "ticks"): 0})
    assert metrics.totals(metrics.received) == {"trades": 7}
    assert metrics.totals(metrics.received, by="exchange") == {"kraken": 3, "binance": 4}


def test_the_docs_name_every_metric() -> None:
    texts = [page.read_text(encoding="utf-8") for page in (Path(__file__).parents[3] / "docs").glob("*.md")]
    named = set(re.findall(r"ingestd_\w+", " ".join(texts)))
    for start, inner, end in re.findall(r"(ingestd_\w+_)\{([a-z_,]+)\}(\w+)", " ".join(texts)):
        named |= {f"{start}{each}{end}" for each in inner.split(",")}
    families = [family for family in Metrics().registry.collect() if family.name.startswith("ingestd_")]
    shown = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    assert len(shown) > 50
    assert shown <= named
