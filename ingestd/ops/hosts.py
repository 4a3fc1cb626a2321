"""Which host names a request to the endpoint may use.

A web page can point its own host name at this machine's address (DNS rebinding); the browser then lets the page read
our answers. But its requests carry the page's host name, and nobody else can own a name that is accepted here.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ingestd.config.values import is_address

# Nobody can register a name under these: RFC 6761 and 6762, ICANN's `.internal`, and the short names of Kubernetes.
_INTERNAL = ("localhost", "local", "internal", "svc")
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[\w.-]+|[0-9A-Fa-f:]{2,})(?::(?P<port>\d{0,5}))?", re.ASCII)


class Hosts:
    """The host names of this machine, to which requests may be addressed."""

    def __init__(self, configured: Sequence[str], resolver: Path = Path("/etc/resolv.conf")) -> None:
        """`configured`: names to accept besides the machine's own name, alone and in `resolver`'s search domains."""
        own = socket.gethostname()
        short = own.partition(".")[0]
        searched = [f"{short}.{domain}" for domain in _searched_domains(resolver)]
        self._names = {_plain(name) for name in (*configured, own, *searched)}

    def accepts(self, hosts: Sequence[str], target: str, *, needs_host_header: bool) -> bool:
        """Whether a request is meant for this machine. `hosts`: its Host headers; `target`: its request target as sent.

        `needs_host_header`: the request must have exactly one Host header, as with HTTP/1.1 (RFC 9112, section 3.2).
        """
        if len(hosts) > 1 or (needs_host_header and not hosts):
            return False
        return all(self._is_ours(host.strip()) for host in [*hosts, *_named_in(target)])

    def _is_ours(self, authority: str) -> bool:
        if not authority:
            return True  # no web page sent it: a browser always names the host
        found = _AUTHORITY.fullmatch(authority)
        if found is None:
            return False
        name = _plain(found["host"])
        if "." not in name or name.rpartition(".")[2] in _INTERNAL or name in self._names:
            return True
        return is_address(name.replace("%25", "%"))


def _named_in(target: str) -> list[str]:
    """The host in an absolute request target, which overrides the header (RFC 9112, section 3.2.2)."""
    try:
        return [] if target.startswith("/") else [urlsplit(target).netloc]
    except ValueError:  # such as [ without ]
        return ["?"]


def _searched_domains(resolver: Path) -> list[str]:
    """The search domains of resolv.conf(5). Asking the resolver could block while a name server does not answer."""
    try:
        lines = [line.split() for line in resolver.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return []
    return [domain for words in lines if words and words[0] in ("search", "domain") for domain in words[1:]]


def _plain(name: str) -> str:
    return name.lower().strip("[]").removesuffix(".")
