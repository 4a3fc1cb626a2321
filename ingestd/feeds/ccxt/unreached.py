"""Describes in plain words why an exchange could not be reached, from the errors of ccxt and its sockets."""

from __future__ import annotations

import errno
import socket

_ADVICE = "is this machine online, and is `url_map` right?"


def unreached(error: BaseException) -> str | None:
    """`binance: https://api.binance.com/api/v3/time: the connection is refused; …`, for example; None for other errors.

    ccxt's own message is the request (`binance GET https://…`) or the socket's error; the reason is in its cause.
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
