"""TLS to PostgreSQL as libpq does it: `sslmode` and the files beside it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from ingestd.config import dsn
from ingestd.errors import ConfigError, Problem

_ALPN = ["postgresql"]  # the protocol name that a server requires when TLS begins at once


@dataclass(frozen=True, slots=True)
class TlsMode:
    """The `ssl…` parameters of a DSN; a file that it does not name is libpq's default, if that exists."""

    mode: str
    direct: bool
    root: str | None
    certificate: str | None
    key: str | None
    key_password: str = field(repr=False)
    revoked: str | None
    lowest: str
    highest: str | None

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Self:
        root = parameters.get("sslrootcert") or _own("root.crt")
        certificate = parameters.get("sslcert") or _own("postgresql.crt")
        return cls(
            mode=parameters.get("sslmode") or ("verify-full" if root == "system" else "prefer"),
            direct=parameters.get("sslnegotiation") == "direct",
            root=root,
            certificate=certificate,
            key=parameters.get("sslkey") or _own("postgresql.key"),
            key_password=parameters.get("sslpassword", ""),
            revoked=parameters.get("sslcrl") or _own("root.crl"),
            lowest=parameters.get("ssl_min_protocol_version") or "TLSv1.2",
            highest=parameters.get("ssl_max_protocol_version"),
        )

    @property
    def verifies(self) -> bool:
        """Whether the server's certificate is checked: `require` does so where there is a root certificate."""
        return self.mode.startswith("verify-") or (self.mode == "require" and self.root is not None)


class _Named(ssl.SSLContext):
    """A context that sends and checks the server's name, although an address was dialled."""

    server_name = ""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,  # noqa: ARG002 - the address
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return super().wrap_bio(incoming, outgoing, server_side, self.server_name, session)


def contexts(tls: TlsMode, server_name: str) -> list[ssl.SSLContext | None]:
    """The contexts to try, the first choice first; None: without TLS. Raises ConfigError as `require_usable`."""
    if tls.mode == "disable":
        return [None]
    context = _context(tls)
    context.server_name = server_name
    if tls.mode == "allow":
        return [None, context]
    return [context, None] if tls.mode == "prefer" else [context]


def require_usable(tls: TlsMode) -> None:
    """Raise ConfigError, which names the parameter, if a file cannot be used."""
    if tls.mode != "disable":
        _context(tls)


def _context(tls: TlsMode) -> _Named:
    context = _Named(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = tls.mode == "verify-full"
    context.verify_mode = ssl.CERT_REQUIRED if tls.verifies else ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion[tls.lowest.replace(".", "_")]
    if tls.highest is not None:
        context.maximum_version = ssl.TLSVersion[tls.highest.replace(".", "_")]
    context.set_alpn_protocols(_ALPN)
    if tls.verifies:
        _verify(context, tls)
    if tls.certificate is not None:
        with _blamed_on("sslcert and sslkey", tls.certificate):
            context.load_cert_chain(tls.certificate, tls.key, lambda: tls.key_password)
    return context


def _verify(context: _Named, tls: TlsMode) -> None:
    if tls.root is None:
        hint = "name the root certificate's file, or write sslrootcert=system"
        raise ConfigError([Problem(dsn.PATH, f"sslmode={tls.mode} needs sslrootcert", hint=hint)])
    if tls.root == "system":
        context.load_default_certs()
    else:
        with _blamed_on("sslrootcert", tls.root):
            context.load_verify_locations(cafile=tls.root)
    if tls.revoked is not None:
        with _blamed_on("sslcrl", tls.revoked):
            context.load_verify_locations(cafile=tls.revoked)
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN


@contextmanager
def _blamed_on(parameter: str, file: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "is no such file"
        raise ConfigError([Problem(dsn.PATH, f"{parameter} cannot be used: {reason}", file)]) from error


def in_home(name: str) -> Path:
    """A file in the user's home; one that does not exist for a user without a home."""
    try:
        return Path.home() / name
    except RuntimeError:
        return Path("/nonexistent")


def _own(name: str) -> str | None:
    """The path of libpq's file of this name; None if there is none."""
    file = in_home(f".postgresql/{name}")
    return str(file) if file.exists() else None
