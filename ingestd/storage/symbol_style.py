"""The style in which a database holds symbols: recorded at its first migration, and required of every writer."""

from __future__ import annotations

from collections.abc import Mapping

from ingestd.channels import TABLE_OF
from ingestd.errors import DatabaseError, SchemaError
from ingestd.storage.candles import AGGREGATES
from ingestd.storage.database import Database
from ingestd.storage.symbols import load_names
from ingestd.venues.market_names import Names

STYLE = "symbol_style"
NEXT_STYLE = "symbol_style_next"
"""A setting that exists while symbols are being renamed: the style that they get."""

_UNKNOWN_TABLE = "42P01"


async def read(db: Database) -> Mapping[str, str]:
    """The database's settings of symbols; empty before the first migration."""
    sql = "SELECT name, value FROM ingestd_settings WHERE name = ANY($1::text[])"
    try:
        return {row["name"]: row["value"] for row in await db.fetch(sql, [STYLE, NEXT_STYLE])}
    except DatabaseError as error:
        if error.sqlstate != _UNKNOWN_TABLE:
            raise
        return {}


async def record_first(db: Database) -> None:
    """Record the connection's style if none is recorded: of a database with data, that in which they were written."""
    if STYLE in await read(db):
        return
    tables = [*TABLE_OF.values(), "feed_gaps", *(level.identifier for level in AGGREGATES)]
    some = " OR ".join(f"EXISTS (SELECT FROM {table})" for table in tables)  # our own names
    has_data = await db.fetchval(f"SELECT {some}")
    style = "unified" if has_data else db.names.style
    await db.execute("INSERT INTO ingestd_settings (name, value) VALUES ($1, $2)", STYLE, style)


async def keep(db: Database) -> None:
    """Let this connection write symbols in the style that is recorded, if one is."""
    if (stored := (await read(db)).get(STYLE)) is not None:
        db.names = Names(stored, db.names.known)  # type: ignore[arg-type] # only a style was ever recorded


async def require(db: Database) -> None:
    """Raises SchemaError if the tables hold symbols in another style than this connection writes.

    Before the first migration there is none: that the schema is missing is reported elsewhere. In the style `venue`,
    or where another part needs them, learn the names that the table `symbols` holds.
    """
    settings = await read(db)
    stored, following = settings.get(STYLE), settings.get(NEXT_STYLE)
    if following is not None:
        raise SchemaError(
            f"{db.target}: its symbols are being renamed from the style '{stored}' to '{following}', and that is not "
            f'finished: set database.symbol_style = "{following}" and run `ingestd migrate -c FILE --rename-symbols`, '
            f'or do that with "{stored}" to go back'
        )
    if stored is None and await db.fetchval("SELECT to_regclass('public.ingestd_settings') IS NOT NULL"):
        # What is stored before the style is recorded would be taken for unified symbols.
        raise SchemaError(f"{db.target}: its style of symbols is not recorded: run `ingestd migrate -c FILE`")
    if stored is not None and stored != db.names.style:
        raise SchemaError(
            f"{db.target}: it holds symbols in the style '{stored}', and database.symbol_style is '{db.names.style}': "
            f"set it to '{stored}', or stop the daemons and run `ingestd migrate -c FILE --rename-symbols`"
        )
    if (db.names.style == "venue" or db.names.known.from_table) and stored is not None:
        await load_names(db)
