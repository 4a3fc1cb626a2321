"""How an exchange's past trades are asked for, with the ids that its stream speaks. Pure."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


class Paging(enum.Enum):
    """How a venue's past trades are asked for."""

    FROM_ID = "from id"  # the oldest ones with this id or a later one
    BEFORE_ID = "before id"  # the newest ones with a smaller id
    FROM_TIME = "from time"  # the oldest ones since this time
    RECENT = "recent"  # the newest ones, and no others


class Ids(enum.Enum):
    """What the ids of a series say about what lies between two of them."""

    CONSECUTIVE = "consecutive"  # each is the one before plus one: a missing one shows
    INCREASING = "increasing"  # later trades have larger ones
    OPAQUE = "opaque"


@dataclass(frozen=True, slots=True)
class Series:
    """How to ask for the trades of one stream. `params` go to ccxt's `fetch_trades` as they are.

    `id_param` names the venue's parameter for the id the page goes by. `is_known`: the venue's file says so, and its
    ids are the stream's even where no stored trade can show it. `source` says where that is written.
    """

    paging: Paging
    ids: Ids
    page_limit: int
    params: Mapping[str, str] = field(default_factory=dict)
    id_param: str | None = None
    is_known: bool = True
    source: str = ""


SeriesChoice = Callable[[str, str | None, bool], Series]
"""The series by kind of market (`spot`, `linear`, `inverse`), stream and whether there is an API key. Raises Unfillable
where none serves the stream."""

ANY_SERIES = Series(Paging.FROM_TIME, Ids.OPAQUE, 1000, is_known=False)
"""Of a venue of which nothing is known: what comes is believed only as far as it shares trades with the stream."""
