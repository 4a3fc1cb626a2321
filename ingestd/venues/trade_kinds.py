"""How venues mark trades that are not ordinary ones, and which of these their own candles leave out.

Both kinds of feed use them: our decoders take the labels, ccxt's trades are looked up by their raw message.
A venue's label that its file does not know is `other`: counted, and left in the candles. Where no sentence of the
venue's documents, and no recording, says that its candles leave a kind out, they are taken to have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ingestd.records import TradeKind

Labels = Mapping[str, TradeKind | None]


@dataclass(frozen=True, slots=True)
class Marks:
    """One venue's. `labels`: a field of the message and its values (None: an ordinary trade). `flags`: fields that are
    there, and true, for trades of that kind only. `left_out`: what the venue's own candles do not count."""

    labels: Mapping[str | int, Labels] = field(default_factory=dict)
    flags: Mapping[str | int, TradeKind] = field(default_factory=dict)
    left_out: frozenset[TradeKind] = frozenset()

    def kinds_of(self, name: str) -> dict[str | None, TradeKind | None]:
        """What each label of this field means, also where it is missing or empty: an ordinary trade."""
        unmarked: dict[str | None, TradeKind | None] = {None: None, "": None}
        return unmarked | dict(self.labels[name].items())

    def kind(self, raw: Any) -> TradeKind | None:
        """The kind of the trade of this raw message."""
        for name, kinds in self.labels.items():
            label = _value(raw, name)
            if label is not None and label != "":
                kind = kinds.get(str(label), "other")
                if kind is not None:
                    return kind
        for name, kind in self.flags.items():
            if str(_value(raw, name)).lower() not in _NOT_SET:
                return kind
        return None


_NOT_SET = frozenset({"none", "", "false", "0", "no"})


def _value(raw: Any, name: str | int) -> Any:
    if isinstance(raw, Mapping):
        return raw.get(name)
    has_place = isinstance(name, int) and isinstance(raw, Sequence) and not isinstance(raw, str) and name < len(raw)
    return raw[name] if has_place else None
