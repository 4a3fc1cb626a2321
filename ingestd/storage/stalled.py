"""Ends sessions of writers that froze in the middle of a transaction, since their locks block others."""

from __future__ import annotations

import structlog

from ingestd.errors import DatabaseError
from ingestd.storage.database import Database

log = structlog.get_logger()


async def disconnect_stalled(database: Database, stalled_after_s: float) -> None:
    """End the sessions that hold position rows while the server waits, for so long, for their client's next word.

    Needs the same database user as theirs; without that right it says so in the log and changes nothing.
    """
    try:
        rows = await database.fetch(
            "SELECT pid, application_name, pg_terminate_backend(pid) AS ended "
            "FROM (SELECT DISTINCT pid, application_name FROM pg_locks JOIN pg_stat_activity AS activity USING (pid) "
            "WHERE relation = 'ingest_positions'::regclass AND mode = 'RowExclusiveLock' AND granted "
            "AND pid <> pg_backend_pid() AND wait_event = 'ClientRead' "
            "AND (application_name LIKE 'ingestd %' OR application_name = current_setting('application_name')) "
            "AND xact_start < now() - make_interval(secs => $1)) AS stalled",
            stalled_after_s,
        )
    except DatabaseError as error:
        log.warning("stalled_writer_not_disconnected", error=str(error))
        return
    for row in rows:
        log.warning("stalled_writer_disconnected", server_process=row["pid"], session=row["application_name"])
