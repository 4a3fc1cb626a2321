"""Arrow tables from PostgreSQL's CSV, with exact decimals. The only file that knows pyarrow.

Decimals are `decimal128(38, 18)`, so that the tables of different days fit together. If a number has more digits before
or behind its point, all of that table's decimals are `decimal256(76, 38)`; more still is an error, and nothing is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ingestd.errors import ConfigError, IngestdError, Problem

_TIMES = frozenset({"bucket_start", "trade_ts", "snapshot_ts", "funding_ts", "created_at"})
_TEXTS = frozenset({"trade_id", "side", "unit", "source"})
_FLAGS = frozenset({"is_buyer_maker"})
_COUNTS = frozenset({"trades_count"})
_OF_THE_MARKET = ("exchange", "symbol")

_FITS_128 = r"^-?[0-9]{1,20}(\.[0-9]{1,18})?$"
_FITS_256 = r"^-?[0-9]{1,38}(\.[0-9]{1,38})?$"
_SHORT_CHARACTERS = 20  # a number of so many has at most 20 digits before its point and 18 behind it


def as_texts(kind: type, sql: str) -> str:
    """The query with its times written as Arrow reads them, whatever the session's settings are."""
    columns = [
        f"""to_char(found.{name} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS {name}"""
        if name in _TIMES
        else f"found.{name}"
        for name in _columns(kind)
    ]
    return f"SELECT {', '.join(columns)} FROM (\n{sql}\n) AS found"  # noqa: S608 # our own names


def table(kind: type, exchange: str, symbol: str, text: Any) -> Any:
    """The `pyarrow.Table` of a CSV with a header line. `text`: bytes, or what has their buffer.

    Raises ConfigError if pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import compute, csv
    except ImportError as error:
        hint = "install the extra arrow of ingestd"
        raise ConfigError([Problem("ingestd.repository", f"needs pyarrow: {error}", hint=hint)]) from error

    columns = {name: _type(pa, name) for name in _columns(kind)}
    options = csv.ConvertOptions(
        column_types=columns,
        true_values=["t"],
        false_values=["f"],
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    found = csv.read_csv(pa.py_buffer(text), convert_options=options)
    decimals = [name for name in columns if name in _decimals(kind)]
    decimal = _fitting(pa, compute, [found.column(name) for name in decimals])
    if decimal is None:
        raise IngestdError(f"{exchange} {symbol}: a number has more than 38 digits before or behind its point")
    types = {**columns, **dict.fromkeys(decimals, decimal)}
    found = found.cast(pa.schema(list(types.items())))
    for place, value in enumerate((exchange, symbol)):
        indexes = pa.repeat(pa.scalar(0, pa.int32()), len(found))
        found = found.add_column(place, _OF_THE_MARKET[place], pa.DictionaryArray.from_arrays(indexes, [value]))
    return found


def _columns(kind: type) -> list[str]:
    return [field.name for field in fields(kind) if field.name not in _OF_THE_MARKET]


def _decimals(kind: type) -> set[str]:
    return set(_columns(kind)) - _TIMES - _TEXTS - _FLAGS - _COUNTS


def _type(pa: Any, name: str) -> Any:
    """The type in which a column is read."""
    if name in _TIMES:
        return pa.timestamp("us", "UTC")
    if name in _FLAGS:
        return pa.bool_()
    # Decimals come as texts: their own reader wraps a number with too many digits round, without an error.
    return pa.int64() if name in _COUNTS else pa.string()


def _fitting(pa: Any, compute: Any, columns: Sequence[Any]) -> Any:
    """The decimal type that holds every number of these columns; None if there is none. The cast would not tell."""
    if all((compute.max(compute.binary_length(column)).as_py() or 0) <= _SHORT_CHARACTERS for column in columns):
        return pa.decimal128(38, 18)
    for pattern, decimal in ((_FITS_128, pa.decimal128(38, 18)), (_FITS_256, pa.decimal256(76, 38))):
        if all(compute.all(compute.match_substring_regex(column, pattern)).as_py() is not False for column in columns):
            return decimal
    return None
