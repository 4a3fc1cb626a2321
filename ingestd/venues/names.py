"""Translates market names in socket messages, for exchanges where ccxt uses other names than the exchange does.

Pure: messages as decoded JSON in and out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ingestd.venues.venue import Markets

_TICKER = "ticker-"  # Independent Reserve's channel of trades


class VenueNames:
    """Translates the names on one socket. This base class changes nothing."""

    def dialled(self, url: str) -> str:
        """Translate the URL that ccxt connects to."""
        return url

    def sent(self, message: Any) -> Any:
        """Translate a message from ccxt to the venue; None if it would request only what was requested before."""
        return message

    def received(self, frame: Any) -> Sequence[Any]:
        """Translate a frame from the venue to the frames that ccxt reads: one, several or none."""
        return (frame,)


class CodeNames(VenueNames):
    """Replaces ccxt's currency codes in market names by the venue's, in subscriptions. ccxt reads the answers itself.

    `forms`: the names to replace, with `{0}` for the base and `{1}` for the quote, such as `pair-{0}-{1}`.
    `between`: the separator between the name and the rest of a text; None if the name is the whole text.
    """

    def __init__(self, forms: Sequence[str], markets: Callable[[], Markets], between: str | None = None) -> None:
        self._forms = forms
        self._markets = markets
        self._between = between

    def dialled(self, url: str) -> str:
        """Translate the market in a URL such as `…?subscribe=ticker-BTC-AUD`."""
        head, subscribe, asked = url.partition("?subscribe=")
        kind = _TICKER if asked.startswith(_TICKER) else ""
        name = asked.removeprefix(_TICKER)
        return f"{head}{subscribe}{kind}{self._theirs().get(name, name)}"

    def sent(self, message: Any) -> Any:
        theirs = self._theirs()
        return self._renamed(message, theirs) if theirs else message

    def _theirs(self) -> dict[str, str]:
        theirs: dict[str, str] = {}
        for market in self._markets().values():
            ours, ids = (market["base"], market["quote"]), (market["baseId"], market["quoteId"])
            if [code.upper() for code in ours] != [str(code).upper() for code in ids]:
                theirs |= {form.format(*ours): form.format(*ids) for form in self._forms}
        return theirs

    def _renamed(self, value: Any, theirs: Mapping[str, str]) -> Any:
        if isinstance(value, str):
            parts = [value] if self._between is None else value.split(self._between)
            return (self._between or "").join(theirs.get(part, part) for part in parts)
        if isinstance(value, list):
            return [self._renamed(item, theirs) for item in value]
        if isinstance(value, dict):
            return {key: self._renamed(item, theirs) for key, item in value.items()}
        return value
