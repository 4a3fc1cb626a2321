"""Detects two `[[feeds]]` that follow the same stream, whose records would be stored twice."""

from __future__ import annotations

import fnmatch
import re
import string
from collections.abc import Iterator, Sequence
from itertools import combinations

from ingestd.config.models import FeedConfig
from ingestd.config.values import is_pattern
from ingestd.errors import Problem

_SHOWN = 3
_TOKENS = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)  # the tokens of an `fnmatch` pattern


def overlaps(feeds: Sequence[FeedConfig]) -> list[Problem]:
    """List a problem for each pair of feeds of one exchange that share a channel and may follow the same market."""
    problems = []
    for (earlier, one), (later, other) in combinations(enumerate(feeds), 2):
        channels = _shared_channels(one, other) if one.exchange == other.exchange else []
        names = list(_shared_names(one.symbols, other.symbols)) if channels else []
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            problems.append(
                Problem(
                    f"feeds[{later}].symbols",
                    f"{', '.join(channels)} of {one.exchange} would be stored twice, feeds[{earlier}] follows the same",
                    ", ".join(names[:_SHOWN]) + more,
                    "leave each market, or each of its channels, to one of the two",
                )
            )
    return problems


def _shared_channels(one: FeedConfig, other: FeedConfig) -> list[str]:
    return [
        channel
        for channel in one.channels
        if channel in other.channels and (channel != "candles" or one.candle_timeframe == other.candle_timeframe)
    ]


def _shared_names(one: Sequence[str], other: Sequence[str]) -> Iterator[str]:
    """Yield the names in both, and the pairs of a pattern and a name, or of two patterns, that can match one market."""
    mine = dict.fromkeys(one)
    yield from dict.fromkeys(name for name in other if name in mine)
    pairs = [(pattern, name) for pattern in filter(is_pattern, mine) for name in other]
    pairs += [(name, pattern) for pattern in filter(is_pattern, other) for name in mine if not is_pattern(name)]
    yield from (f"{first} and {second}" for first, second in pairs if first != second and may_be_one(first, second))


def may_be_one(one: str, other: str) -> bool:
    """Whether some text matches both patterns, by the rules of `fnmatch`."""
    first, second = _TOKENS.findall(one), _TOKENS.findall(other)
    # Dynamic programming from the end: `below[place]` says whether what is left of both patterns may match one text.
    below = [False] * len(second) + [True]
    for place in range(len(second) - 1, -1, -1):
        below[place] = second[place] == "*" and below[place + 1]
    for token in reversed(first):
        row = [False] * len(second) + [token == "*" and below[-1]]
        for place in range(len(second) - 1, -1, -1):
            if token == "*":
                row[place] = below[place] or row[place + 1]
            elif second[place] == "*":
                row[place] = row[place + 1] or below[place]
            else:
                row[place] = _tokens_overlap(token, second[place]) and below[place + 1]
        below = row
    return below[0]


def _tokens_overlap(one: str, other: str) -> bool:
    """Whether some character matches both tokens, neither of which is a star. Of two sets only ASCII is looked at."""
    if "?" in (one, other):
        return True
    if len(one) == 1:
        return fnmatch.fnmatchcase(one, other)
    if len(other) == 1:
        return fnmatch.fnmatchcase(other, one)
    return any(fnmatch.fnmatchcase(c, one) and fnmatch.fnmatchcase(c, other) for c in string.printable)
