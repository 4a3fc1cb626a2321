"""Translates the names of markets in socket messages, where ccxt uses others than the exchange.

Pure: messages as decoded JSON in and out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ingestd.venues.venue import Markets

_TICKER = "ticker-"  # Independent Reserve's trades


class VenueNames(Protocol):
    """One socket's."""

    def dialled(self, url: str) -> str:
        """ccxt's URL as it is to be dialled."""

    def sent(self, message: Any) -> Any:
        """ccxt's message as the venue is to get it; None: there is nothing to ask for that was not asked."""

    def received(self, frame: Any) -> Sequence[Any]:
        """The venue's frame as ccxt is to read it: one, several or none."""


class AsDialled:
    """Names of an exchange whose URLs name no market."""

    def dialled(self, url: str) -> str:
        """The URL as it is."""
        return url


class CodeNames(AsDialled):
    """ccxt asks for a market by its own codes of the coins, and reads the answer by the venue's ids of them.

    `between`: what parts the name from the rest of a text; None: the name is the whole text.
    """

    def __init__(self, forms: Sequence[str], markets: Callable[[], Markets], between: str | None = None) -> None:
        self._forms = forms
        self._markets = markets
        self._between = between

    def dialled(self, url: str) -> str:
        """What is asked for may stand in the URL, as in `?subscribe=ticker-BTC-AUD`, and nowhere else."""
        head, subscribe, asked = url.partition("?subscribe=")
        kind = _TICKER if asked.startswith(_TICKER) else ""
        name = asked.removeprefix(_TICKER)
        return f"{head}{subscribe}{kind}{self._theirs().get(name, name)}"

    def sent(self, message: Any) -> Any:
        theirs = self._theirs()
        return self._renamed(message, theirs) if theirs else message

    def received(self, frame: Any) -> Sequence[Any]:
        return (frame,)

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
