"""The book rule of venues that number no book's changes."""

from __future__ import annotations

from ingestd.venues.messages import BookChange


class Unnumbered:
    """Every change goes onto the book: what is lost between two shows elsewhere, or nowhere."""

    def follows(self, change: BookChange, sequence: int | None) -> bool | None:
        """Always."""
        return True
