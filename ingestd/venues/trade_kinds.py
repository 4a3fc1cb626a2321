"""How venues mark special trades, and which of these their own candles leave out.

Native decoders read the labels; for trades from ccxt, the raw message is looked up. A label that the venue's file does
not know becomes `other`: it is counted, and part of the candles. We assume that a venue's candles include a kind unless
its documents or a recording show that they do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ingestd.records import TradeKind

Labels = Mapping[str, TradeKind | None]


@dataclass(frozen=True, slots=True)
class Marks:
    """How one venue marks its trades.

    `labels`: fields of the message, each with the kind for each of its values (None: an ordinary trade). `flags`:
    fields that are true only for trades of that kind. `left_out`: the kinds that the venue's own candles do not count.
    """

    labels: Mapping[str | int, Labels] = field(default_factory=dict)
    flags: Mapping[str | int, TradeKind] = field(default_factory=dict)
    left_out: frozenset[TradeKind] = frozenset()

    def kinds_of(self, name: str) -> dict[str | None, TradeKind | None]:
        """The kind for each label of this field. A missing or empty label is an ordinary trade."""
        unmarked: dict[str | None, TradeKind | None] = {None: None, "": None}
        return unmarked | dict(self.labels[name].items())

    def kind(self, raw: Any) -> TradeKind | None:
        """The kind of the trade in this raw message; None if it is an ordinary one."""
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
