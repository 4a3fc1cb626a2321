"""The tables: which columns the writer fills, and which rows are duplicates."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ingestd.channels import ROWS, ChannelRow


class OnConflict(enum.Enum):
    """What to do with a row whose key is already stored."""

    NO_KEY = "no key"  # the table has no unique key: every row is stored
    KEEP = "keep"  # the stored row stays, the new one is counted as a duplicate
    REPLACE = "replace"  # the new row replaces the stored one (a candle that grew)
    MERGE = "merge"  # as `merge` of the table says (a gap, whose row others write too)


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    channel: str
    columns: tuple[str, ...]
    key: tuple[str, ...] = ()
    on_conflict: OnConflict = OnConflict.NO_KEY
    merge: str = ""
    seldom: tuple[str, ...] = ()  # the last columns, if nearly every row has their defaults

    @property
    def ordinary_columns(self) -> tuple[str, ...]:
        """The columns without `seldom`."""
        return self.columns[: len(self.columns) - len(self.seldom)]

    @property
    def staging(self) -> str:
        """The staging table's name; statements qualify it with `pg_temp`."""
        return f"staging_{self.name}"

    def create_staging(self) -> str:
        """DDL of the staging table of one transaction. It keeps CHECK and NOT NULL constraints, so that COPY names a
        bad row, and generated columns, since an administrator may have added one that is NOT NULL."""
        return (
            f"CREATE TEMP TABLE pg_temp.{self.staging} (LIKE {self.name} "
            "INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING IDENTITY INCLUDING CONSTRAINTS) ON COMMIT DROP"
        )

    def merge_staging(self) -> str:
        """SQL that moves rows from staging into the table, in key order, so that two writers cannot deadlock.

        Of several rows with one key, REPLACE keeps the last one and KEEP the first. A table without a key of ours may
        have one that an administrator added: then the first row is kept.
        """
        columns, key = ", ".join(self.columns), ", ".join(self.key)
        if not key:
            return (
                f"INSERT INTO {self.name} ({columns}) "  # noqa: S608 # every name is a constant of this file
                f"SELECT {columns} FROM pg_temp.{self.staging} ORDER BY ctid ON CONFLICT DO NOTHING"
            )
        last = "ASC" if self.on_conflict is OnConflict.KEEP else "DESC"
        return (
            f"INSERT INTO {self.name} ({columns}) "  # noqa: S608 # every name is a constant of this file
            f"SELECT DISTINCT ON ({key}) {columns} FROM pg_temp.{self.staging} ORDER BY {key}, ctid {last} "
            f"ON CONFLICT {self._resolution()}"
        )

    def count_missing(self) -> str:
        """SQL that counts staged rows that are not in the table: a trigger, a rule or a policy kept them out. Only
        tables with a key can be counted so."""
        if not self.key:
            return "SELECT 0"
        same = " AND ".join(f"t.{name} = s.{name}" for name in self.key)
        return (
            f"SELECT count(*) FROM pg_temp.{self.staging} s "  # noqa: S608 # every name is a constant of this file
            f"WHERE NOT EXISTS (SELECT 1 FROM {self.name} t WHERE {same})"
        )

    def _resolution(self) -> str:
        if self.on_conflict is OnConflict.KEEP:
            return f"({', '.join(self.key)}) DO NOTHING"
        if self.on_conflict is OnConflict.MERGE:
            return f"({', '.join(self.key)}) DO UPDATE SET {self.merge}"
        changed = [name for name in self.columns if name not in self.key]
        assignments = ", ".join(f"{name} = EXCLUDED.{name}" for name in changed)
        return f"({', '.join(self.key)}) DO UPDATE SET {assignments}"


# A gap's end only moves forward, so a record that comes late or twice reopens nothing. A backfill's verdict (filled,
# unfillable) stays, unless the gap turns out to be longer than what was filled.
_JUDGED = (
    "feed_gaps.status IN ('filled', 'unfillable') "
    "AND (feed_gaps.ended_at IS NULL OR feed_gaps.ended_at = EXCLUDED.ended_at)"
)
_MERGE_GAP = (
    "ended_at = EXCLUDED.ended_at, cause = EXCLUDED.cause, "
    f"status = CASE WHEN {_JUDGED} THEN feed_gaps.status ELSE EXCLUDED.status END, "
    f"detail = CASE WHEN {_JUDGED} THEN feed_gaps.detail ELSE EXCLUDED.detail END "
    "WHERE EXCLUDED.ended_at IS NOT NULL AND (feed_gaps.ended_at IS NULL OR feed_gaps.ended_at <= EXCLUDED.ended_at)"
)


def _table(row: ChannelRow) -> Table:
    on_conflict = OnConflict.REPLACE if row.replaces else OnConflict.KEEP if row.key else OnConflict.NO_KEY
    return Table(row.table, row.name, row.table_columns, row.key, on_conflict, seldom=row.seldom)


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        *map(_table, ROWS),
        Table(
            "feed_gaps",
            "gaps",
            ("exchange", "symbol", "channel", "started_at", "ended_at", "cause", "status", "detail"),
            ("exchange", "symbol", "channel", "started_at"),
            OnConflict.MERGE,
            _MERGE_GAP,
        ),
        Table(
            "rejected_records",
            "rejections",
            ("at", "table_name", "reason", "sqlstate", "record", "error"),
        ),
    )
}
