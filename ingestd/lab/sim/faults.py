"""Faults on request: the available faults, and the schedule from the command line."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from ingestd.errors import IngestdError

Kind = Literal[
    "drop", "half_open", "malformed", "burst", "duplicate", "id_jump", "depth_jump", "rate_limit", "unsubscribe"
]
KINDS: tuple[Kind, ...] = get_args(Kind)


class FaultError(IngestdError):
    """The fault does not exist, or this simulator does not support it."""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault.

    `unsubscribe`: the venue silently stops sending `channel` (None: all) of the symbol on the open sockets; `deaf`: it
    also ignores that many resubscriptions on each of them (-1: all, on any socket).

    `symbol`: a unified symbol or a market id; None: all. `n`: number of frames, trades, ids or requests.
    `seconds`: how long a socket stays half-open; None: until the client reconnects.
    `status` and `retry_after_s`: the answer to a rate-limited request (429 or 418).
    """

    kind: Kind
    symbol: str | None = None
    n: int = 1
    seconds: float | None = None
    status: Literal[429, 418] = 429
    retry_after_s: int = 1
    channel: str | None = None
    deaf: int = 0


class Scheduled(msgspec.Struct, frozen=True):
    """A fault and its time, in seconds after the emission began."""

    after_s: float
    fault: Fault


def parse_fault(body: bytes) -> Fault:
    """Parse the JSON of `POST /_sim/faults`. Raises `FaultError`."""
    try:
        return msgspec.json.decode(body, type=Fault)
    except msgspec.DecodeError as error:
        raise FaultError(str(error)) from error


def parse_schedule(text: str) -> Scheduled:
    """`drop@5`, `malformed@3:10` (ten frames), `half_open@8:2.5` (seconds), `rate_limit@1:3`. Raises `FaultError`."""
    kind, at, rest = text.partition("@")
    when, _, amount = rest.partition(":")
    if kind not in KINDS or not at:
        raise FaultError(f"{text!r} is not KIND@SECONDS[:AMOUNT] with KIND one of {', '.join(KINDS)}")
    try:
        if kind == "half_open":
            return Scheduled(float(when), Fault(kind, seconds=float(amount) if amount else None))
        return Scheduled(float(when), Fault(kind, n=int(amount) if amount else 1))
    except ValueError as error:
        raise FaultError(f"{text!r}: {error}") from error
