"""A Redis subscriber that measures the age of each message at its arrival, by the message's timestamp.

`python -m ingestd.lab.sim.subscriber PORT PATTERN…` prints `ready`, and on SIGTERM one JSON line. Publisher and
subscriber must share the machine's clock; timestamps in milliseconds add an error of up to one.
"""

from __future__ import annotations

import calendar
import json
import re
import signal
import socket
import sys
import time
from types import FrameType

_TIMESTAMP = re.compile(rb'"timestamp":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{6})Z"')


class Ages:
    """Collects the ages of messages, in microseconds."""

    def __init__(self) -> None:
        self.ages: list[int] = []
        self._seconds: dict[bytes, int] = {}
        self._tail = b""

    def feed(self, data: bytes, now_us: int) -> None:
        """Parse bytes read from the socket at `now_us`."""
        data = self._tail + data
        end = 0
        for match in _TIMESTAMP.finditer(data):
            second, fraction = match.groups()
            if second not in self._seconds:
                text = time.strptime(second.decode(), "%Y-%m-%dT%H:%M:%S")
                self._seconds[second] = calendar.timegm(text) * 1_000_000
            self.ages.append(now_us - self._seconds[second] - int(fraction))
            end = match.end()
        self._tail = data[end:][-200:]

    def summary(self) -> dict[str, float]:
        """The number of messages, and percentiles of their ages in milliseconds."""
        ordered = sorted(self.ages)

        def at(share: float) -> float:
            return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1000, 3) if ordered else 0.0

        return {"messages": len(ordered), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0)}


def command(*words: str) -> bytes:
    return (f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)).encode()


def main(arguments: list[str]) -> None:
    port, *patterns = arguments
    ages = Ages()

    def finish(_number: int, _frame: FrameType | None) -> None:
        print(json.dumps(ages.summary()), flush=True)
        sys.exit(0)

    with socket.create_connection(("127.0.0.1", int(port))) as connection:
        connection.sendall(command("PSUBSCRIBE", *patterns))
        connection.recv(65536)
        signal.signal(signal.SIGTERM, finish)
        print("ready", flush=True)
        while data := connection.recv(1 << 20):
            ages.feed(data, time.time_ns() // 1000)
    finish(0, None)


if __name__ == "__main__":
    main(sys.argv[1:])
