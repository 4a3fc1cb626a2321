"""`python -m tests.support.described` writes the descriptions of the schema anew: run it after adding a migration.

Each is made from a database that was migrated from nothing, on each engine.
"""

from __future__ import annotations

from pathlib import Path

from ingestd.storage.database import Database
from ingestd.storage.doctor.description import Description, describe, to_json
from ingestd.storage.engine import Engine
from ingestd.storage.engine import detect as engine_of
from tests.support.postgres import Server, run_apart, running_server

FOLDER = Path(__file__).parents[2] / "sql" / "described"
SERVERS: dict[Engine, tuple[str, dict[str, str]]] = {
    Engine.POSTGRES: ("postgres", {}),
    Engine.TIMESCALEDB: ("timescaledb", {}),
    Engine.TIMESCALEDB_APACHE: ("timescaledb", {"timescaledb.license": "apache"}),
}


def described_on(server: Server) -> tuple[Engine, Description]:
    """The engine of a server, and the schema that the migrations make there."""
    return run_apart(_described(server.dsn(server.migrated_template())))


async def _described(dsn: str) -> tuple[Engine, Description]:
    db = await Database.connect(dsn)
    try:
        engine = await engine_of(db)
        return engine, await describe(db, engine)
    finally:
        await db.close()


def main() -> None:
    """Write a file for each engine."""
    FOLDER.mkdir(exist_ok=True)
    for engine, (kind, settings) in SERVERS.items():
        with running_server(kind, **settings) as server:
            found, description = described_on(server)
        assert found is engine
        file = FOLDER / f"{engine.value}.json"
        file.write_bytes(to_json(description))
        print(f"{file}: {len(description.relations)} relations")


if __name__ == "__main__":
    main()
