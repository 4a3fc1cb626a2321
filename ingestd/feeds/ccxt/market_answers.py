"""Keeps an exchange's replies while its markets load, removes an entry that ccxt cannot read, and lets ccxt read the
remaining entries again.

ccxt reads a whole list at once, so one bad entry fails all of them. If ccxt has a method for a single market of the
exchange, `TappedMarkets` catches the error there. Otherwise the bad entry is found in the traceback's frames. No I/O.
"""

from __future__ import annotations

import json
import re
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from ingestd.config.secrets import redact
from ingestd.errors import MarketListTooLong
from ingestd.feeds.ccxt.ccxt_errors import RATE_LIMIT_ERRORS, unreached
from ingestd.feeds.markets.judge import shown_name
from ingestd.venues.exact import ExactFloat
from ingestd.venues.families import Family

# Limits of one load
MOST_REMOVALS = 200  # bad entries: a list with more is not a list of markets
MOST_ENTRIES = 50_000  # in all lists: ccxt blocks the event loop for about 0.2 ms per entry
MOST_REQUESTS = 5_000  # ccxt queries some exchanges market by market, and pages until there is no next page
MOST_CHARS = 2**27  # in all replies, which stay in memory until the load ends

_DEEPEST = 4  # nesting levels of a reply that are searched for lists of entries
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_MOST_DIGITS = 400


class NoAnswer(dict[Any, Any]):
    """Empty stand-in for a missing reply: every key that ccxt looks up in it is empty too."""

    def __missing__(self, _key: object) -> NoAnswer:
        return NoAnswer()

    def __add__(self, other: Any) -> Any:
        return other

    def __radd__(self, other: Any) -> Any:
        return other


class MarketAnswers:
    """The replies of one load. `left_out`: the reason for each entry left out. `missing`: the reason for each missing
    family of markets."""

    def __init__(self, *, entries_may_go: bool) -> None:
        """`entries_may_go`: whether an entry of a list can be removed without a change to what the others mean."""
        self._entries_may_go = entries_may_go
        self._answers: dict[tuple[str, int], Any] = {}
        self._families: dict[tuple[str, int], Family] = {}
        self._asked: Counter[str] = Counter()
        self._errors: list[Exception] = []
        self._refusal: Exception | None = None  # the error of a request that the load cannot do without
        self._removals = 0
        self._entries = 0
        self._chars = 0
        self._were_sorted_out = False
        self._suspects: list[tuple[str, int]] | None = None  # requests whose replies ccxt may be unable to read
        self._suspected: tuple[tuple[str, int], Any] | None = None
        self.left_out: dict[str, str] = {}
        self.missing: dict[Family, str] = {}

    def read_again(self) -> None:
        """Prepare for another run in which ccxt repeats the same requests."""
        self._asked.clear()

    async def ask(self, request: str, family: Family | None, fetch: Callable[[], Awaitable[Any]]) -> Any:
        """Return the kept reply, or send the request. A failed request for one family is noted in `missing`. Any other
        failure is raised, and so is a rate limit or a ban, which affects all lists of the exchange."""
        place = request, self._asked[request]
        self._asked[request] += 1
        if place in self._answers:
            return self._answers[place]
        try:
            self._refuse_too_much(0)
            answer = await fetch()
            entries = sum(map(len, _lists_in(answer, 0)))
            self._refuse_too_much(entries)
            self._entries += entries
        except Exception as error:
            if family is None or isinstance(error, RATE_LIMIT_ERRORS):
                self._refusal = error
                raise
            self._errors.append(error)
            why = unreached(error) or f"{type(error).__name__}: {error}"
            self.missing.setdefault(family, redact(why)[:300])
            answer = NoAnswer()
        else:
            if family is not None and not isinstance(answer, (dict, list)):
                self.missing.setdefault(family, f"its answer is not JSON: {shown_name(answer)}")
                answer = NoAnswer()
            elif family is not None:
                self._families[place] = family
        self._answers[place] = answer
        return answer

    def note_text(self, chars: int) -> None:
        self._chars += chars

    def _refuse_too_much(self, more: int) -> None:
        entries = self._entries + more
        if entries > MOST_ENTRIES or len(self._answers) >= MOST_REQUESTS or self._chars > MOST_CHARS:
            raise MarketListTooLong(
                f"it lists more than any venue has, {entries} markets in {len(self._answers) + 1} answers of "
                f"{self._chars} characters: check which server answers there, and `url_map`"
            )

    def require_one(self) -> None:
        """Raise the first error if every family failed."""
        if self._errors and not self._families:
            raise self._errors[0]

    def leave_out(self, entry: Any, reason: str) -> None:
        self.left_out.setdefault(shown_name(entry), reason)

    def remove_unreadable(self, error: Exception) -> bool:
        """Remove what ccxt could not read, so that it can read again. False if there is nothing to remove."""
        if error is self._refusal or (not self._families and self._errors):
            return False
        if self._entries_may_go and self._removals < MOST_REMOVALS:
            if not self._were_sorted_out:
                self._were_sorted_out = True
                if self._sort_out():
                    return True
            if self._suspects is None and self._take_out(error):
                self._removals += 1
                return True
        return self._suspect_a_family(error)

    def was_read(self) -> None:
        """Note that ccxt has read everything. A family that had to be left out for that is `missing`."""
        if self._suspected is not None:
            self.missing[self._families.pop(self._suspected[0])] = "its answer cannot be read"

    def note_passed_over(self, markets: Iterable[Any]) -> None:
        """Leave out entries that ccxt skipped silently, in lists of which it read at least half of the entries."""
        used = {id(market["info"]) for market in markets if isinstance(market, Mapping) and "info" in market}
        for container in self._lists():
            left = [entry for _, entry in _items(container) if id(entry) not in used]
            for entry in left if len(left) * 2 <= len(container) else ():
                self.leave_out(entry, "the exchange library makes no market of it")

    def _sort_out(self) -> bool:
        """Remove entries that are not objects from lists of objects."""
        entries = [(container, *item) for container in self._lists() for item in _items(container)]
        strangers = [entry for entry in entries if not isinstance(entry[2], (dict, list))]
        for container, key, entry in reversed(strangers):
            self.leave_out({"symbol": key} if isinstance(key, str) else entry, "is not a market")
            del container[key]
        return bool(strangers)

    def _take_out(self, error: Exception) -> bool:
        """Remove the entry that ccxt was reading when it failed."""
        owners = {id(entry): (container, key) for container in self._lists() for key, entry in _items(container)}
        for value in _held_by(error):
            if id(value) in owners and isinstance(value, (dict, list)):
                container, key = owners[id(value)]
                self.leave_out(value, f"cannot be read: {type(error).__name__}: {error}"[:200])
                del container[key]
                return True
        return False

    def _suspect_a_family(self, error: Exception) -> bool:
        """Leave out one family's reply, and put back the one left out before. False if none is left to try."""
        if self._suspects is None:
            self._suspects = list(self._families) if len(self._families) > 1 else []
        if self._suspected is not None:
            place, answer = self._suspected
            self._answers[place], self._suspected = answer, None
        if not self._suspects:
            return False
        place = self._suspects.pop()
        self._suspected = place, self._answers[place]
        self._answers[place] = NoAnswer()
        self._errors.append(error)
        return True

    def _lists(self) -> Iterator[Any]:
        for answer in self._answers.values():
            yield from _lists_in(answer, 0)


def _lists_in(value: Any, depth: int) -> Iterator[Any]:
    """The lists of entries in a reply, and the objects that hold entries by name. Does not search inside entries."""
    if depth > _DEEPEST or not isinstance(value, (dict, list)) or isinstance(value, NoAnswer):
        return
    children = list(value.values()) if isinstance(value, dict) else value
    objects = sum(isinstance(child, (dict, list)) for child in children)
    if isinstance(value, list):
        if objects and objects * 2 >= len(children):
            yield value
        return
    tables = [child for child in children if isinstance(child, dict)]
    if depth and len(tables) > 1 and len(tables) * 2 >= len(children) and not any(map(_holds_entries, tables)):
        yield value
        return
    for child in children:
        yield from _lists_in(child, depth + 1)


def _items(container: Any) -> list[tuple[Any, Any]]:
    """The entries of a list, or of an object that holds them by name, each with its key."""
    return list(container.items() if isinstance(container, dict) else enumerate(container))


def _holds_entries(table: dict[Any, Any]) -> bool:
    return any(isinstance(child, list) and len(child) > 1 and isinstance(child[0], dict) for child in table.values())


def _held_by(error: Exception) -> Iterator[Any]:
    """The local variables of the traceback's frames, innermost first, and the list items at their loop indexes."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        held = frame.f_locals
        yield from held.values()
        numbers = [held[name] for name in ("i", "j", "k") if isinstance(held.get(name), int)]
        for value in list(held.values()):
            if isinstance(value, list):
                yield from (value[number] for number in numbers if 0 <= number < len(value))


def read_leniently(text: str) -> Any:
    """Read JSON, and accept numbers of any size, and control characters and lone surrogates in strings. Surrogates
    become the replacement character. Raises ValueError for other malformed JSON."""
    try:
        return _repaired(json.loads(text, strict=False, parse_float=ExactFloat, parse_int=_whole))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float("inf")


def _repaired(value: Any) -> Any:
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, list):
        return [_repaired(item) for item in value]
    if isinstance(value, dict):
        return {_repaired(key): _repaired(item) for key, item in value.items()}
    return value
