"""Run under callgrind: of each venue so many trades are decoded and made into COPY text.

`python decode_and_copy.py RECORDS VENUE…`. A call of `getppid` stands before and after each venue: callgrind
is told to write down its counts there, so that neither the interpreter's start nor what is done to warm up is counted.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from ingestd.lab.sim.venue_frames import VENUES, numbered, raw
from ingestd.records import Record, Trade
from ingestd.storage.writer.rows import RowMaker
from ingestd.venues.market_names import Names
from ingestd.venues.messages import Decoder
from tests.performance.venues import decoder_of

_RECEIVED_AT = 1_790_000_000_000_000
_WARM_UP_RECORDS = 300


def decode_and_copy(decode: Decoder, frames: Sequence[bytes]) -> bytes:
    """What the daemon does between the socket and the server, without what lies between the two."""
    records: list[Record] = []
    for number, frame in enumerate(frames):
        records += [message for message in decode(frame, _RECEIVED_AT + number) if type(message) is Trade]
    maker = RowMaker(Names())
    maker.add(records)
    return maker.rows()["trades"].payload


def main(records: int, wanted: Sequence[str]) -> None:
    """Print one line a venue, in the order of the counts."""
    mark = os.getppid
    venues = {venue.exchange: venue for venue in VENUES}
    gc.disable()
    for exchange in wanted:
        venue = venues[exchange]
        decode = decoder_of(exchange, {venue.market_id: venue.symbol, venue.symbol: venue.symbol})
        frames = [frame.encode() for frame in numbered(raw(venue.trade), records)]
        text = decode_and_copy(decode, frames[:_WARM_UP_RECORDS])
        mark()
        text = decode_and_copy(decode, frames)
        mark()
        assert text.count(b"\n") == records, f"{exchange}: {text.count(bytes([10]))} rows of {records}"
        print(exchange)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
