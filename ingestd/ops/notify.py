"""Tells systemd the truth about the daemon (the sd_notify protocol). Does nothing where systemd is not listening."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Sends state lines to the socket systemd names in NOTIFY_SOCKET.

    A message that cannot be sent is dropped: the daemon's work never depends on being watched.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_interval_s = _watchdog_interval_s(environ)
        """How often to call `watchdog`: half of what systemd allows. None: no watchdog was asked for."""

    def ready(self, status: str = "") -> bool:
        """Start-up, or a reload, is complete."""
        return self._send("READY=1", status=status)

    def watchdog(self) -> bool:
        """The daemon is alive. Call this only if `health.liveness` says so, else the watchdog is useless."""
        return self._send("WATCHDOG=1")

    def reloading(self) -> bool:
        """A reload has begun; `ready` ends it."""
        return self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str = "") -> bool:
        """The stop has begun."""
        return self._send("STOPPING=1", status=status)

    def _send(self, *lines: str, status: str = "") -> bool:
        if self._address is None:
            return False
        if status:
            lines = *lines, f"STATUS={' '.join(status.split())}"  # a line break would begin a new assignment
        try:
            with socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            ) as sender:
                sender.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            return False
        return True


def _address(name: str) -> str | None:
    """The socket's address. A leading @ stands for the NUL byte of Linux's abstract names."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def _watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # it was meant for the process that started us
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    return int(microseconds) / 1_000_000 / 2
