"""Translates errors of ccxt and its sockets to ours, and says in plain words why an exchange could not be reached."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import ccxt

from ingestd.config.secrets import redact
from ingestd.errors import BookBroken, ChannelError, FeedError, RateLimited, Refused, SymbolError
from ingestd.retry import retry_after_s

RATE_LIMIT_ERRORS = (ccxt.DDoSProtection, ccxt.RateLimitExceeded)
_RATE_LIMIT_STATUS = (418, 429)
_ADVICE = "is this machine online, and is `url_map` right?"


def translated(error: BaseException) -> FeedError:
    """Convert a ccxt or socket error to a FeedError; one that is a FeedError already stays as it is."""
    if isinstance(error, FeedError):
        return error
    text = redact(unreached(error) or f"{type(error).__name__}: {error}")
    if isinstance(error, RATE_LIMIT_ERRORS):
        return RateLimited(text, getattr(error, "retry_after_s", 0.0))
    if isinstance(error, ccxt.InvalidNonce):  # includes ccxt.ChecksumError
        return BookBroken(text)
    symbols: frozenset[str] | None = getattr(error, "symbols_in_frame", None)
    if symbols is not None:
        return Refused(text, symbols)
    if isinstance(error, ccxt.BadSymbol):
        return SymbolError(text)
    sent_by_venue = getattr(error, "sent_by_venue", False)
    if isinstance(error, ccxt.NotSupported) and not sent_by_venue:
        return ChannelError(text)
    handshake = error.args[0] if error.args else None
    if getattr(handshake, "status", None) in _RATE_LIMIT_STATUS:
        return RateLimited(text, retry_after_in(getattr(handshake, "headers", None)))
    if isinstance(error, ccxt.ExchangeError):
        return Refused(text, frozenset() if sent_by_venue else None)
    return FeedError(text)


def retry_after_in(headers: Mapping[str, Any] | None) -> float:
    """The Retry-After header in seconds; 0 if absent."""
    said = next((value for name, value in dict(headers or {}).items() if name.lower() == "retry-after"), None)
    return retry_after_s(said, datetime.now(UTC))


def unreached(error: BaseException) -> str | None:
    """Why no server answered (`binance: https://api.binance.com/…: the connection is refused; …`); None: other errors.

    ccxt's own message is the request (`binance GET https://…`) or the socket's error; the reason is in its `__cause__`.
    """
    first = error.args[0] if error.args else None
    cause = error.__cause__ or (first if isinstance(first, BaseException) else None)
    why = _why(getattr(cause, "os_error", cause))
    if why is None:
        return None
    asked = str(first).split(" ")
    if len(asked) == 3 and asked[2].startswith("http"):
        return f"{asked[0]}: {asked[2].partition('?')[0]}: {why}; {_ADVICE}"
    host = getattr(cause, "host", None)
    return None if host is None else f"{host}:{getattr(cause, 'port', '')}: {why}; {_ADVICE}"


def _why(error: object) -> str | None:
    if isinstance(error, socket.gaierror):
        return "its name cannot be resolved"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED:
        return "the connection is refused"
    if isinstance(error, OSError) and error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return "there is no way to it"
    return None
