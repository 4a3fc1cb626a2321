"""What the embedded servers share: start, stop, and a guard that ends a server when its parent process has ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import unquote, urlsplit

from ingestd.errors import IngestdError

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.01
_PORT_ATTEMPTS = 5
_PORTS = range(10_000, 32_768)  # https://docs.kernel.org/networking/ip-sysctl.html: ip_local_port_range


class EmbeddedServerError(IngestdError):
    """An embedded server is not installed, cannot run on this machine, or did not start."""


class EmbeddedServer(ABC):
    """A server process on 127.0.0.1. Use it with `with` or `async with`, or call `start()` and `stop()`, which block.

    The server ends with the process that started it. After a restart it has the same port, except PostgreSQL.
    """

    _name: ClassVar[str]
    _stop_signals: ClassVar[Sequence[signal.Signals]] = (signal.SIGKILL,)

    def __init__(self, directory: Path | None = None, settings: Mapping[str, str] | None = None) -> None:
        """`directory` holds the log and what the server keeps; by default a temporary folder, removed by `stop()`.

        `settings` are passed to the server.
        """
        self._directory = directory
        self._settings = dict(settings or {})
        self._temporary: Path | None = None
        self._home = Path()
        self._run_as: dict[str, Any] = {}  # arguments of `subprocess.Popen`
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)

    def start(self) -> None:
        """Start the server and wait until it is ready. A failure raises EmbeddedServerError with the end of the log."""
        if self._process is not None:
            raise RuntimeError("already started")
        try:
            self._prepare()
            for _ in range(_PORT_ATTEMPTS):
                self._port = self._port or free_port()
                self._process = process = self._spawn()
                if self._becomes_ready(process):
                    self._guard = self._make_guard(process.pid)
                    return
                self._process, self._port = None, 0
            log = last_lines(self._home / "server.log")
            raise EmbeddedServerError(f"the embedded {self._name} did not start:\n{log}")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server if it runs, by force if necessary, and remove the temporary folder if there is one."""
        self._end()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return None if self._process is None else self._process.pid

    @property
    def port(self) -> int:
        return self._port

    def _prepare(self) -> None:
        """Make the folder in which the server runs."""
        if self._directory is not None:
            self._home = self._directory.absolute()
            self._home.mkdir(parents=True, exist_ok=True)
        elif self._temporary is None:
            self._home = self._temporary = Path(tempfile.mkdtemp(prefix=f"ingestd-{self._name.lower()}-"))

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """The command that runs the server at `_port`."""

    @abstractmethod
    def _is_ready(self, pid: int) -> bool:
        """Whether the server accepts clients."""

    def _spawn(self) -> subprocess.Popen[bytes]:
        with (self._home / "server.log").open("ab") as log:
            return subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._home,
                start_new_session=True,  # so that Ctrl-C reaches only the daemon, which stops the server in order
                **self._run_as,
            )

    def _becomes_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait until the server is ready. False if it ended (if the port was taken, say), or is killed at a timeout."""
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline_s and process.poll() is None:
            if self._is_ready(process.pid):
                return True
            time.sleep(_POLL_S)
        process.kill()
        process.wait()
        return False

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            for number in self._stop_signals:
                process.send_signal(number)  # does nothing if the server has ended
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_STOP_TIMEOUT_S)
                    break
        self._dismiss_guard()

    def _make_guard(self, pid: int) -> subprocess.Popen[bytes]:
        """Start a process that waits until our end of a pipe closes, however we end, and then signals the server."""
        number = str(int(self._stop_signals[0]))
        return subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; kill "-$1" "$2"', "ingestd-guard", number, str(pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **self._run_as,
        )

    def _dismiss_guard(self) -> None:
        """End the guard without a signal to the server, which has ended or is to go on.

        The guard is killed before its pipe is closed: it would signal a process id that another process may have now.
        """
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.kill()
            guard.communicate()


def wheel_folder(package: str, what: str) -> Path:
    """The folder of an installed wheel of the extra `embedded`. Raises EmbeddedServerError if it is missing."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise EmbeddedServerError(f"{what} is not installed: run {how_to_install('embedded')}")
    return Path(spec.origin).parent


def how_to_install(extra: str) -> str:
    """The command that installs an extra. ingestd is on no package index, so it is installed from a folder."""
    folder = _source_folder()
    where = f"'{folder}[{extra}]'" if folder is not None else f"'.[{extra}]' in the folder of ingestd's source"
    return f"{sys.executable} -m pip install {where}"


def _source_folder() -> Path | None:
    """The folder of this checkout, or of the one that ingestd was installed from (PEP 610); None if there is none."""
    beside = Path(__file__).resolve().parents[3]
    if (beside / "pyproject.toml").is_file():
        return beside
    try:
        origin = json.loads(metadata.distribution("ingestd").read_text("direct_url.json") or "{}")
        folder = Path(unquote(urlsplit(origin.get("url", "")).path))
    except (metadata.PackageNotFoundError, ValueError, AttributeError):
        return None
    return folder if (folder / "pyproject.toml").is_file() else None


def free_port() -> int:
    """Find a port that nothing listens on.

    It lies below the range from which the kernel chooses ports itself, for connections and for listeners that name no
    port: another process could get a port of that range before the caller listens on it.
    """
    while True:
        port = _PORTS[secrets.randbelow(len(_PORTS))]  # not `random`, which a test may seed
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def last_lines(file: Path) -> str:
    """The last 15 lines of a log; empty if there is none."""
    text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    return "\n".join(text.splitlines()[-15:])
