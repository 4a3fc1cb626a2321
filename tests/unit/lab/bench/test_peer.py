"""What the peer is given is what Binance sends: the venue's own reader in the simulator finds the same trades in it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from ingestd.lab.bench.peer import write_frames
from ingestd.lab.bench.sample import trades
from ingestd.lab.sim.venues.binance import Binance
from ingestd.records import Trade


def test_the_frames_hold_the_sample(tmp_path: Path) -> None:
    file = tmp_path / "frames.ndjson"
    names = write_frames(file, 50, symbols=3)
    venue = Binance()
    found = [trade for frame in file.read_text().splitlines() for trade in venue.trades(venue.payload(frame))]

    assert list(names) == ["S0000-USDT", "S0001-USDT", "S0002-USDT"]
    assert [trade.market_id for trade in found[:4]] == ["S0000USDT", "S0001USDT", "S0002USDT", "S0000USDT"]
    for sent, record in zip(found, trades(50), strict=True):
        assert isinstance(record, Trade)
        told = (sent.trade_id, Decimal(sent.price), Decimal(sent.quantity), sent.side)
        assert told == (record.trade_id, Decimal(record.price), Decimal(record.quantity), record.side)
