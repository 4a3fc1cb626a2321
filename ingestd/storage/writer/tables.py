"""The tables: which columns the writer fills, and which rows are duplicates."""

from __future__ import annotations

from dataclasses import dataclass

from ingestd.channels import ROWS, ChannelRow


@dataclass(frozen=True, slots=True)
class Table:
    """A table as the writer fills it. Without a `key` every row is stored."""

    name: str
    channel: str
    columns: tuple[str, ...]
    key: tuple[str, ...] = ()
    updates: str = ""  # what follows DO UPDATE SET; empty: the stored row stays, and the new one is a duplicate
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

        Of several rows with one key the last one is taken if it updates the stored one, else the first. A table without
        a key of ours may have one that an administrator added: then the first row is kept.
        """
        columns, key = ", ".join(self.columns), ", ".join(self.key)
        chosen, order, conflict = columns, "ctid", "DO NOTHING"
        if key:
            chosen = f"DISTINCT ON ({key}) {columns}"
            order = f"{key}, ctid {'DESC' if self.updates else 'ASC'}"
            conflict = f"({key}) DO UPDATE SET {self.updates}" if self.updates else f"({key}) DO NOTHING"
        return (
            f"INSERT INTO {self.name} ({columns}) "  # noqa: S608 # every name is a constant of this file
            f"SELECT {chosen} FROM pg_temp.{self.staging} ORDER BY {order} ON CONFLICT {conflict}"
        )

    def count_missing(self) -> str:
        """SQL that counts staged rows that are not in the table: a trigger, a rule or a policy kept them out. Always
        0 for a table without a key."""
        if not self.key:
            return "SELECT 0"
        same = " AND ".join(f"t.{name} = s.{name}" for name in self.key)
        return (
            f"SELECT count(*) FROM pg_temp.{self.staging} s "  # noqa: S608 # every name is a constant of this file
            f"WHERE NOT EXISTS (SELECT 1 FROM {self.name} t WHERE {same})"
        )


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
    columns = row.table_columns
    updates = ", ".join(f"{name} = EXCLUDED.{name}" for name in columns if row.replaces and name not in row.key)
    return Table(row.table, row.name, columns, row.key, updates, row.seldom)


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        *map(_table, ROWS),
        Table(
            "feed_gaps",
            "gaps",
            ("exchange", "symbol", "channel", "started_at", "ended_at", "cause", "status", "detail"),
            ("exchange", "symbol", "channel", "started_at"),
            _MERGE_GAP,
        ),
        Table("rejected_records", "rejections", ("at", "table_name", "reason", "sqlstate", "record", "error")),
    )
}
