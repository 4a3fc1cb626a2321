"""The book rule of venues without sequence numbers."""

from __future__ import annotations

from ingestd.venues.messages import BookChange


class Unnumbered:
    """Applies every change. A lost change shows elsewhere (by a checksum), or not at all."""

    def follows(self, change: BookChange, sequence: int | None) -> bool | None:
        """Always True."""
        return True
