"""`ingestd gaps`: what it prints."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from ingestd.cli.gaps import gaps, lasted_text, to_csv, to_json, to_text
from ingestd.gaps.causes import CAUSES
from ingestd.printable import printable_json
from ingestd.storage.gap_ledger import GapRow

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
CLOSED = GapRow(
    "binance",
    "BTC/USDT",
    "trades",
    NOW - timedelta(hours=2),
    NOW - timedelta(hours=1),
    "restart",
    "filled",
    12,
    "all, of them",
)
OPEN = GapRow("kraken", "BTC/USD", "ticks", NOW - timedelta(seconds=30), None, "disconnect", "open", 0, None)


def test_a_person_reads_what_happened_how_long_and_what_to_do() -> None:
    text = to_text([OPEN, CLOSED], {"filled": 1, "open": 1}, NOW)
    header, first, second = text.splitlines()[:3]
    assert header.split() == [
        "started",
        "(UTC)",
        "lasted",
        "status",
        "exchange",
        "channel",
        "symbol",
        "cause",
        "recovered",
        "detail",
    ]
    assert first.split() == [
        "2026-01-02",
        "11:59:30.000",
        "30.0",
        "s",
        "so",
        "far",
        "open",
        "kraken",
        "ticks",
        "BTC/USD",
        "disconnect",
        "0",
    ]
    assert second.startswith("2026-01-02 10:00:00.000  1 h 00 min")
    assert second.endswith("12         all, of them")
    assert "2 gaps: 1 filled, 1 open." in text
    for cause in ("restart", "disconnect"):
        assert CAUSES[cause].meaning in text
        assert CAUSES[cause].remedy in text
    assert CAUSES["stale"].meaning not in text


def test_what_the_limit_hides_is_said() -> None:
    assert "250 gaps: 250 open; the newest 1 are shown, --limit shows more." in to_text([OPEN], {"open": 250}, NOW)


def test_a_venues_last_words_cannot_steer_the_terminal() -> None:
    row = GapRow("x", "A/B", "trades", NOW, NOW, "disconnect", "closed", 0, "bye\x1b[2J\n")
    assert "bye?[2J?" in to_text([row], {"closed": 1}, NOW)


def test_json_and_csv_hold_every_column() -> None:
    document = json.loads(to_json([CLOSED, OPEN], {"filled": 1, "open": 1}, NOW))
    assert document["counts"] == {"filled": 1, "open": 1}
    assert set(document["causes"]) == {"restart", "disconnect"}
    assert document["gaps"][0]["lasted_s"] == 3600
    assert document["gaps"][1] == {
        "exchange": "kraken",
        "symbol": "BTC/USD",
        "channel": "ticks",
        "started_at": "2026-01-02T11:59:30Z",
        "ended_at": None,
        "cause": "disconnect",
        "status": "open",
        "recovered_rows": 0,
        "detail": None,
        "lasted_s": 30,
    }
    first, second = csv.DictReader(io.StringIO(to_csv([CLOSED, OPEN], NOW)))
    assert (first["started_at"], first["detail"], first["recovered_rows"]) == (
        "2026-01-02T10:00:00+00:00",
        "all, of them",
        "12",
    )
    assert (second["ended_at"], second["lasted_s"]) == ("", "30.000000")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0521, "0.052 s"),
        (12.34, "12.3 s"),
        (245, "4 min 05 s"),
        (12_000, "3 h 20 min"),
        (187_200, "2 d 4 h"),
    ],
)
def test_how_long(seconds: float, text: str) -> None:
    assert lasted_text(seconds) == text


def test_every_cause_is_explained_in_two_sentences() -> None:
    for cause, about in CAUSES.items():
        assert re.fullmatch(r"[a-z_]+", cause)
        assert about.meaning.endswith(".")
        assert about.remedy.endswith(".")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "yesterday"], "30m, 2h or 7d"),
        (["--since", "999999d"], "30m, 2h or 7d"),
        (["--since", "9999-01-31"], "is in the future"),
        (["--limit", "0"], "0 is not in the range"),
        (["--csv", "--json"], "exclude each other"),
    ],
)
def test_wrong_usage_is_told(tmp_path: Path, arguments: list[str], said: str) -> None:
    config = tmp_path / "ingestd.toml"
    config.write_text('[database]\ndsn = "postgresql://nobody@127.0.0.1:1/x"\n')
    outcome = CliRunner().invoke(gaps, ["-c", str(config), *arguments])
    assert outcome.exit_code == 2
    assert said in outcome.output


EVIL = "a\x1b[2Jb\rc\x00d\x9b31me\u202ef\u2066g\x7fh\U000e0041i\nj"
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\U000e0000-\U000e0fff]")


@pytest.mark.parametrize("field", ["exchange", "symbol", "channel", "cause", "status", "detail"])
def test_no_column_steers_the_terminal_or_begins_a_line(field: str) -> None:
    texts = {"exchange": "x", "symbol": "A/B", "channel": "trades", "cause": "disconnect", "status": "closed"}
    row = GapRow(**{**texts, "detail": "", field: EVIL}, started_at=NOW, ended_at=NOW, recovered_rows=0)
    as_text, as_csv = to_text([row], {row.status: 1}, NOW), to_csv([row], NOW)
    for printed in (as_text, as_csv):
        assert not CONTROL.search(printed)
        assert "a?[2Jb?c?d?31me?f?g?h?i?j" in printed
    assert len(as_csv.splitlines()) == 2
    as_json = printable_json(to_json([row], {"closed": 1}, NOW).decode())
    assert not CONTROL.search(as_json)
    assert json.loads(as_json)["gaps"][0][field] == EVIL


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1", "\uff1d1+1"])
def test_no_cell_is_a_formula(text: str) -> None:
    row = GapRow("x", text, "trades", NOW, NOW, "disconnect", "closed", 0, text)
    (read,) = csv.DictReader(io.StringIO(to_csv([row], NOW)))
    for column in ("symbol", "detail"):
        assert read[column][0] in "'?"
    plain = GapRow("x", "BTC/USDT:USDT-260327", "trades", NOW, NOW, "disconnect", "closed", 0, "1 = 1")
    (read,) = csv.DictReader(io.StringIO(to_csv([plain], NOW)))
    assert (read["symbol"], read["detail"]) == ("BTC/USDT:USDT-260327", "1 = 1")


@pytest.mark.parametrize(
    ("channels", "for_good", "to_come"),
    [
        (["ticks"], True, False),
        (["order_book"], True, False),
        (["liquidations"], True, False),
        (["mark_prices", "trades"], True, True),
        (["trades", "candles"], False, True),
        (["funding", "ticks"], True, True),
        (["open_interest"], False, True),
    ],
)
def test_closed_is_said_to_be_for_good_where_nothing_can_be_fetched(
    channels: list[str], for_good: bool, to_come: bool
) -> None:
    rows = [GapRow("x", "A/B", channel, NOW, NOW, "disconnect", "closed", 0, None) for channel in channels]
    as_json = json.loads(to_json(rows, {"closed": len(rows)}, NOW))["statuses"]["closed"]
    for told in (to_text(rows, {"closed": len(rows)}, NOW), as_json):
        assert ("cannot be fetched afterwards" in told) is for_good
        assert ("has not been fetched yet" in told) is to_come
