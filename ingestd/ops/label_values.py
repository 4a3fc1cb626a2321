"""Bounds the number of values of each label: an exchange that invents names must not fill the memory."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

log = structlog.get_logger()

OTHER = "other"
VALUES_KEPT = 200  # of one label, over all metrics of a daemon; ccxt has some 110 exchanges


class LabelValues:
    """The values that each label has had. Once a label has had `VALUES_KEPT`, further values are shown as `other`."""

    def __init__(self) -> None:
        self._values: dict[str, set[str]] = {}
        self._full: set[str] = set()

    def reserve(self, label: str, values: Iterable[str]) -> None:
        """Always show these values by their names."""
        self._values.setdefault(label, set()).update(values)

    def shown(self, label: str, value: str) -> str:
        """The value as it is shown."""
        known = self._values.setdefault(label, set())
        if value in known:
            return value
        if len(known) < VALUES_KEPT:
            known.add(value)
            return value
        if label not in self._full:
            self._full.add(label)
            log.warning("label_values_limited", label=label, kept=VALUES_KEPT, first_left_out=value, shown_as=OTHER)
        return OTHER
