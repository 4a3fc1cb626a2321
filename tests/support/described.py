"""`python -m tests.support.described` writes the descriptions of the schema anew: run it after adding a migration.

Each is made from a database that was migrated from nothing, on each engine; those of packs from one with every pack.
"""

from __future__ import annotations

from pathlib import Path

from ingestd.config.models import Config
from ingestd.config.packs import PACKS
from ingestd.storage.database import Database
from ingestd.storage.doctor.description import Description, describe, describe_pack, to_json
from ingestd.storage.engine import Engine
from ingestd.storage.engine import detect as engine_of
from ingestd.storage.migrate import migrate
from tests.support.postgres import Server, default_config, run_apart, running_server, temporary_database

FOLDER = Path(__file__).parents[2] / "sql" / "described"
SERVERS: dict[Engine, tuple[str, dict[str, str]]] = {
    Engine.POSTGRES: ("postgres", {}),
    Engine.TIMESCALEDB: ("timescaledb", {}),
    Engine.TIMESCALEDB_APACHE: ("timescaledb", {"timescaledb.license": "apache"}),
}


def described_on(server: Server) -> tuple[Engine, dict[str, Description]]:
    """The engine of a server, and what the migrations make there: by pack, and as "" the schema itself."""
    with temporary_database(server.direct()) as database:
        return run_apart(_described(database.dsn))


async def _described(dsn: str) -> tuple[Engine, dict[str, Description]]:
    db = await Database.connect(dsn)
    try:
        engine = await engine_of(db)
        found = {"": await describe(db, engine)}
        await migrate(db, with_packs(dsn))
        return engine, found | {pack: await describe_pack(db, engine, pack) for pack in PACKS}
    finally:
        await db.close()


def with_packs(dsn: str) -> Config:
    """The default configuration with every pack."""
    exchange = {"exchange": "binance"}
    database = {"dsn": dsn, "packs": list(PACKS), "symbol_style": "unified"}
    feeds = [{"exchange": "binance", "symbols": ["BTC/USDT"]}]
    return default_config(database=database, packs={"fks": exchange, "ingestion": exchange}, feeds=feeds)


def file_of(engine: Engine, pack: str) -> Path:
    """Where the description of the schema, or of a pack, lies."""
    return FOLDER / engine.value / f"{pack}.json" if pack else FOLDER / f"{engine.value}.json"


def main() -> None:
    """Write the files of each engine."""
    for engine, (kind, settings) in SERVERS.items():
        with running_server(kind, **settings) as server:
            found, descriptions = described_on(server)
        assert found is engine
        for pack, description in descriptions.items():
            file = file_of(engine, pack)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(to_json(description))
            print(f"{file}: {len(description.relations)} relations")


if __name__ == "__main__":
    main()
