"""Where the SQL files are: inside the installed package, or at the root of a checkout."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from ingestd.errors import SchemaError


def sql_root() -> Traversable:
    """The folder that holds `migrations/`, `timescaledb/` and `postgres/`."""
    packaged = files("ingestd") / "_data" / "sql"
    if packaged.is_dir():
        return packaged
    checkout = Path(__file__).resolve().parents[2] / "sql"
    if checkout.is_dir():
        return checkout
    raise SchemaError("the SQL files of ingestd are not installed: install the package again")


def read_sql(name: str) -> str:
    """The text of one file, `postgres/refresh_candles.sql`, with Unix line ends."""
    return sql_root().joinpath(*name.split("/")).read_text(encoding="utf-8").replace("\r\n", "\n")
