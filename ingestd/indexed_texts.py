"""How long a text may be that is stored in an indexed column.

PostgreSQL takes at most 2,704 bytes of one row into a B-tree, and answers 54000 to more:
https://www.postgresql.org/docs/current/btree.html. Our indexes hold up to three names, or one id, beside numbers and
times: with at most four bytes to a character that is 1,536 bytes, or 800, and what these need besides.
"""

from __future__ import annotations

LONGEST_NAME = 128
"""Characters of what an index may hold several of: exchange, symbol, channel, timeframe, the venue's trade id."""

LONGEST_ID = 200
"""Characters of what is alone in its index, such as an order's id."""


def is_name(text: str) -> bool:
    """Whether it may be stored as a name. `isprintable` is false for control characters and for half surrogate pairs,
    which no encoding takes."""
    return 0 < len(text) <= LONGEST_NAME and text.isprintable()


def is_id(text: str) -> bool:
    """Whether it may be stored as an id."""
    return 0 < len(text) <= LONGEST_ID and text.isprintable()
