"""How to request an exchange's past trades under the same ids as its stream. Pure."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


class Paging(enum.Enum):
    """How a venue pages through its past trades."""

    FROM_ID = "from id"  # the oldest trades with this id or a later one
    BEFORE_ID = "before id"  # the newest trades with a smaller id
    FROM_TIME = "from time"  # the oldest trades since this time
    RECENT = "recent"  # the newest trades only


class Ids(enum.Enum):
    """How the ids of a series relate, and so what they prove about missing trades."""

    CONSECUTIVE = "consecutive"  # each id is the one before plus one: a missing trade shows
    INCREASING = "increasing"  # later trades have larger ids
    OPAQUE = "opaque"


@dataclass(frozen=True, slots=True)
class Series:
    """How to request the past trades of one stream. `params` are passed to ccxt's `fetch_trades` unchanged.

    `id_param`: the venue's name for the id parameter of a page. `is_known`: the venue's file states that the ids are
    the stream's, so no stored trade has to prove it. `source`: the document that says so.
    """

    paging: Paging
    ids: Ids
    page_limit: int
    params: Mapping[str, str] = field(default_factory=dict)
    id_param: str | None = None
    is_known: bool = True
    source: str = ""


SeriesChoice = Callable[[str, str | None, bool], Series]
"""Chooses the series by kind of market (`spot`, `linear`, `inverse`), stream and whether there is an API key. Raises
Unfillable if no series serves the stream."""

ANY_SERIES = Series(Paging.FROM_TIME, Ids.OPAQUE, 1000, is_known=False)
"""The series of a venue without facts: its pages are trusted only if they share trades with the stream."""
