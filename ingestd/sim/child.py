"""What every embedded server needs: a free port, and a guard that ends it when the program that started it is gone."""

from __future__ import annotations

import signal
import socket
import subprocess
from typing import Any

from ingestd.errors import IngestdError


class EmbeddedServerError(IngestdError):
    """The embedded server cannot be used here."""


class Guard:
    """A process that waits for the end of a pipe we hold, however we went, and then signals the server."""

    def __init__(self, pid: int, number: signal.Signals = signal.SIGKILL, **account: Any) -> None:
        """`account`: whom to run as, in the words of `subprocess.Popen`."""
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; kill "-$1" "$2"', "ingestd-guard", str(int(number)), str(pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **account,
        )

    def dismiss(self) -> None:
        """The server is ended in order. Killed before its pipe closes: the server's process id may be another's."""
        self._process.kill()
        self._process.communicate()


def free_port() -> int:
    """A port nothing listens on; somebody else may take it until it is used."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
