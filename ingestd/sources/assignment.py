"""Which partitions the group has given to this member, and which of them it has yet to claim in the database."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ingestd.clock import monotonic_s
from ingestd.kafka.messages import Consumer, Part


class Assignment:
    """`parts` are this member's partitions. `consumer` reads them; it is None while this is no member of the group.

    `committed` are the offsets that the broker was last told.
    """

    def __init__(self) -> None:
        self.consumer: Consumer | None = None
        self.parts: set[Part] = set()
        self.number = 0  # counts the assignments
        self.committed: dict[Part, int] = {}
        self._given: set[Part] = set()  # by the last assignment, whatever was revoked since
        self._claim_at_s: dict[Part, float] = {}  # at once, or later where another member owns the row

    @property
    def had_some(self) -> bool:
        """Whether the last assignment gave any partition."""
        return bool(self._given)

    def begin(self, parts: Collection[Part]) -> bool:
        """Take a new assignment. Return whether it lacks a partition that the last one gave."""
        lacks_some = bool(self._given - set(parts))
        self.parts, self._given = set(parts), set(parts)
        self.number += 1
        self._claim_at_s = dict.fromkeys(parts, 0.0)
        return lacks_some

    def revoke(self, parts: Sequence[Part]) -> None:
        """Give these partitions up."""
        self.parts.difference_update(parts)
        for part in parts:
            self._claim_at_s.pop(part, None)

    def end(self) -> None:
        """This is no member of the group any more."""
        self.parts.clear()
        self._claim_at_s.clear()

    def to_claim(self) -> list[Part]:
        """The partitions to claim now."""
        now_s = monotonic_s()
        return sorted(part for part, claim_at_s in self._claim_at_s.items() if claim_at_s <= now_s)

    def is_unclaimed(self, part: Part) -> bool:
        """Whether this partition is yet to be claimed."""
        return part in self._claim_at_s

    def claimed(self, part: Part) -> bool:
        """Note that it is claimed. False: it was revoked, or claimed already."""
        return part in self.parts and self._claim_at_s.pop(part, None) is not None

    def claim_again(self, part: Part, *, after_s: float) -> None:
        """Stop reading this partition, and claim it after so many seconds."""
        if self.consumer is not None:
            self.consumer.pause(part)
        if part in self.parts:
            self._claim_at_s[part] = monotonic_s() + after_s
