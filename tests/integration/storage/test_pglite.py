"""Every TimescaleDB statement in PGlite, a WebAssembly build with the extension.

For where no server has it; where one has, this is a second version of both (PostgreSQL 17, TimescaleDB 2.23).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingestd.storage import candle_rebuild, migrations, policies
from ingestd.storage.candles import AGGREGATES
from ingestd.storage.engine import Engine
from tests.support.candles import BUCKETS, COLUMNS, TradeRow, expected_candles
from tests.support.postgres import default_config

PROJECT = Path(__file__).parents[2] / "pglite"
MIDNIGHT = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def node() -> str:
    """Node, with the package installed as the lock file says."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("no Node.js: the TimescaleDB SQL is not run in PGlite")
    if not (PROJECT / "node_modules" / "@unni-craftsman" / "pglite").is_dir():
        command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        installed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=110)
        if installed.returncode != 0:
            pytest.skip(f"npm ci failed, PGlite is not there: {installed.stderr.strip().splitlines()[-1:]}")
    return node


def run(node: str, texts: list[str]) -> list[list[dict[str, Any]]]:
    """The rows of each text; fails on the first error, with its text."""
    result = subprocess.run(
        [node, "run.mjs"], cwd=PROJECT, input=json.dumps(texts), capture_output=True, text=True, check=True, timeout=100
    )
    answers: list[dict[str, Any]] = json.loads(result.stdout)
    for text, answer in zip(texts, answers, strict=False):
        assert "error" not in answer, f"{answer['error']} in:\n{text}"
    assert len(answers) == len(texts)
    return [answer["rows"] for answer in answers]


def test_migrations_policies_candles_and_the_way_back(node: str) -> None:
    steps = migrations.load(Engine.TIMESCALEDB)
    nothing = policies.Present({}, {}, {}, {})
    changes = list(policies.differences(nothing, Engine.TIMESCALEDB, default_config()))
    early = [_trade(-1, 1), _trade(0, 2), _trade(0, 1), _trade(3_600_000, 1)]
    late = [_trade(-2, 1), _trade(0, 3)]
    selects = {relation: _select(relation) for relation in BUCKETS}
    texts = [
        "CREATE EXTENSION timescaledb",
        *(text for step in steps for text in _with_names(step.version, step.up)),
        f"BEGIN; {' '.join(change.sql for change in changes)} COMMIT",
        _insert(early),
        *_refreshes(),
        _insert(late),
        *_refreshes(),
        *selects.values(),
        *(text for step in reversed(steps) for text in _with_names(step.version, step.down)),
        "SELECT count(*) AS left FROM pg_class WHERE relnamespace = 'public'::regnamespace",
    ]
    answers = dict(zip(texts, run(node, texts), strict=True))
    assert answers[texts[-1]] == [{"left": 0}]
    for relation, bucket in BUCKETS.items():
        rows = [tuple(row.values()) for row in answers[selects[relation]]]
        assert rows == expected_candles([*early, *late], bucket), relation


def _with_names(version: int, sql: str) -> list[str]:
    """A migration, and what the candles' steps do after theirs: the old hierarchy goes, the new one gets its names."""
    text = f"BEGIN; {sql}; SELECT 1; COMMIT"
    if version != candle_rebuild.VERSION:
        return [text]
    levels = candle_rebuild.LEVELS
    return [
        text,
        'DROP VIEW IF EXISTS candles_1month; DROP VIEW "candles_1M"',
        *(f"DROP MATERIALIZED VIEW {level.relation}" for level in reversed(levels)),
        *(f"ALTER MATERIALIZED VIEW ingestd_next_{level.relation} RENAME TO {level.relation}" for level in levels),
        'ALTER VIEW "ingestd_next_candles_1M" RENAME TO "candles_1M"',
        'CREATE VIEW candles_1month AS SELECT * FROM "candles_1M"',
    ]


def test_the_lock_file_names_no_registry() -> None:
    assert "resolved" not in (PROJECT / "package-lock.json").read_text(encoding="utf-8")


def _trade(offset_ms: int, seq: int) -> TradeRow:
    time = MIDNIGHT + timedelta(milliseconds=offset_ms)
    return TradeRow(time, "BTC/USDT", f"{offset_ms}/{seq}", seq, ("buy", "sell", None)[seq % 3], f"{seq}.50", "0.10")


def _insert(trades: list[TradeRow]) -> str:
    rows = ", ".join(
        f"('{trade.time.isoformat()}', 'binance', '{trade.symbol}', '{trade.trade_id}', {trade.seq},"
        f" {repr(trade.side) if trade.side else 'NULL'}, {trade.price}, {trade.quantity}, now())"
        for trade in trades
    )
    return f"INSERT INTO trades VALUES {rows}"


def _refreshes() -> list[str]:
    window = "'2026-04-06 00:00+00', '2026-08-03 00:00+00'"
    return [f"CALL refresh_continuous_aggregate('{level.identifier}', {window})" for level in AGGREGATES]


def _select(relation: str) -> str:
    columns = ", ".join(f"{column.strip()}::text" for column in COLUMNS.split(","))
    return f"SELECT {columns} FROM {relation} ORDER BY {relation}.bucket_start, symbol"
