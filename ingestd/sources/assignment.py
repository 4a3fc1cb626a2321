"""The partitions that the group has assigned to this member, and which of them it must still claim in the database."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ingestd.clock import monotonic_s
from ingestd.kafka.messages import Consumer, Part


class Assignment:
    """This member's partitions (`parts`). `consumer` reads them; it is None while this process is not in the group.

    `committed` are the offsets last committed to the broker.
    """

    def __init__(self) -> None:
        self.consumer: Consumer | None = None
        self.parts: set[Part] = set()
        self.number = 0  # counts the assignments
        self.committed: dict[Part, int] = {}
        self._given: set[Part] = set()  # as last assigned, including partitions revoked since
        self._claim_at_s: dict[Part, float] = {}  # monotonic time; later where another member owns the row

    @property
    def had_some(self) -> bool:
        """Whether the last assignment had any partition."""
        return bool(self._given)

    def begin(self, parts: Collection[Part]) -> bool:
        """Take a new assignment. Return whether it lacks a partition of the last one."""
        lacks_some = bool(self._given - set(parts))
        self.parts, self._given = set(parts), set(parts)
        self.number += 1
        self._claim_at_s = dict.fromkeys(parts, 0.0)
        return lacks_some

    def revoke(self, parts: Sequence[Part]) -> None:
        """Remove revoked partitions."""
        self.parts.difference_update(parts)
        for part in parts:
            self._claim_at_s.pop(part, None)

    def end(self) -> None:
        """Remove everything: this process has left the group."""
        self.parts.clear()
        self._claim_at_s.clear()

    def to_claim(self) -> list[Part]:
        """The partitions to claim now."""
        now_s = monotonic_s()
        return sorted(part for part, claim_at_s in self._claim_at_s.items() if claim_at_s <= now_s)

    def is_unclaimed(self, part: Part) -> bool:
        """Whether this partition must still be claimed."""
        return part in self._claim_at_s

    def claimed(self, part: Part) -> bool:
        """Note that this partition is claimed. False: it was revoked, or claimed already."""
        return part in self.parts and self._claim_at_s.pop(part, None) is not None

    def claim_again(self, part: Part, *, after_s: float) -> None:
        """Stop reading this partition, and claim it again after `after_s` seconds."""
        if self.consumer is not None:
            self.consumer.pause(part)
        if part in self.parts:
            self._claim_at_s[part] = monotonic_s() + after_s
