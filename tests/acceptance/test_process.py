"""The real process against a simulated venue and a real server: signals, outages, and every kind of bad input."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ingestd.lab.sim.embedded import EmbeddedPostgres
from ingestd.lab.sim.synthetic.venue import SyntheticVenue, synthetic_venue
from ingestd.storage.database import Database
from ingestd.storage.migration_steps import LOCK_KEY
from tests.support.daemon import Daemon, ingestd, running, write_config
from tests.support.postgres import DatabaseForTest, Server, temporary_database

NOWHERE = "postgresql://postgres@127.0.0.1:1/nowhere"


def feed(venue: SyntheticVenue, **options: Any) -> dict[str, Any]:
    spot = [symbol for symbol in venue.symbols if ":" not in symbol]
    return {
        "exchange": "binance",
        "symbols": spot,
        "channels": ["ticks", "trades"],
        "url_map": venue.url_map,
        **options,
    }


@asynccontextmanager
async def market(**options: Any) -> AsyncIterator[SyntheticVenue]:
    async with synthetic_venue(**{"symbols": 3, "rate": 600.0, **options}) as venue:
        yield venue


async def stop_venue(venue: SyntheticVenue, daemon: Daemon) -> None:
    """Stop the emission and wait until everything sent has arrived."""
    await venue.stop()
    await daemon.quiet()


def sent_trades(venue: SyntheticVenue) -> Counter[tuple[Any, ...]]:
    lines = (json.loads(line) for line in venue.ledger.trade_lines())
    return Counter((line["symbol"], line["trade_id"], line["price"], line["quantity"], line["side"]) for line in lines)


async def stored_trades(dsn: str) -> Counter[tuple[Any, ...]]:
    db = await Database.connect(dsn)
    try:
        rows = await db.fetch("SELECT symbol, trade_id, price::text, quantity::text, side FROM trades")
        return Counter(tuple(row.values()) for row in rows)
    finally:
        await db.close()


def assert_conserved(counts: dict[str, dict[str, int]]) -> None:
    for channel in {*counts["received"], *counts["recovered"]}:
        made = counts["journaled" if channel == "gaps" else "received"]  # a gap is not received
        came = made.get(channel, 0) + counts["recovered"].get(channel, 0)
        terms = ("stored", "duplicate", "rejected", "dropped", "in_journal")
        assert came == sum(counts[term].get(channel, 0) for term in terms), (channel, counts)


async def test_sigterm_drains_and_exits_0(database: DatabaseForTest, tmp_path: Path) -> None:
    async with market() as venue:
        config_file = write_config(tmp_path, {"database": {"dsn": database.dsn}, "feeds": [feed(venue)]})
        async with running(config_file, fresh=True) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 500)
            status, body = await daemon.get("/readyz")
            assert status == 200, body
            assert (await daemon.get("/livez"))[0] == 200
            await stop_venue(venue, daemon)
            sent = sent_trades(venue)
            assert await daemon.stop() == 0
        counts = daemon.counts()
    assert await stored_trades(database.dsn) == sent
    assert_conserved(counts)
    assert counts["in_journal"] == {}


async def test_a_stop_under_load_loses_nothing_received(postgres_database: DatabaseForTest, tmp_path: Path) -> None:
    async with market(rate=3000.0) as venue:
        config_file = write_config(tmp_path, {"database": {"dsn": postgres_database.dsn}, "feeds": [feed(venue)]})
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 2000)
            assert await daemon.stop() == 0
        counts = daemon.counts()
        stored = await stored_trades(postgres_database.dsn)
        assert_conserved(counts)
        assert counts["in_journal"] == {}
        assert stored.total() == counts["stored"]["trades"]
        assert not stored - sent_trades(venue)


async def test_a_second_sigterm_forces(postgres_database: DatabaseForTest, tmp_path: Path) -> None:
    async with market() as venue:
        document = {"database": {"dsn": postgres_database.dsn, "flush_ms": 60_000}, "feeds": [feed(venue)]}
        config_file = write_config(tmp_path, {**document, "instance": {"shutdown_deadline_s": 60}})
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 100)
            db = await postgres_database.connect()
            async with db.transaction():
                await db.execute("LOCK TABLE trades IN ACCESS EXCLUSIVE MODE")
                daemon.signal(signal.SIGTERM)
                await asyncio.sleep(1.5)
                assert daemon.process.returncode is None
                daemon.signal(signal.SIGTERM)
                assert await daemon.ended(5) == 1
            await db.close()
        assert "forced_exit" in daemon.log()


async def test_what_sends_several_signals_at_once_means_one_stop(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    """systemd and a wrapper, `timeout` and its group, Ctrl-C and a shell: the lease is given back, nothing is left."""
    async with market() as venue:
        document = {"database": {"dsn": postgres_database.dsn}, "feeds": [feed(venue)]}
        config_file = write_config(tmp_path, document)
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 100)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                daemon.signal(number)
                await asyncio.sleep(0.003)
            assert await daemon.ended() == 0
        assert "forced_exit" not in daemon.log()
        assert daemon.log().count('"stop_requested"') == 1
        assert daemon.counts()["in_journal"] == {}
        events = [json.loads(line) for line in daemon.log().splitlines()]
        assert {event["logger"].partition(".")[0] for event in events} == {"ingestd"}
        (connected,) = (event for event in events if event["event"] == "connected")
        assert connected["mapped_to"].startswith("ws://127.0.0.1:")
        db = await postgres_database.connect()
        state = [tmp_path / "state", *(tmp_path / "state").rglob("*")]
        assert {path.name for path in state if path.stat().st_mode & 0o077} == set()
        assert len(state) > 5
        given_back = await db.fetch("SELECT renewed_at = expires_at AS is_over FROM ingest_leases")
        assert [row["is_over"] for row in given_back] == [True]
        await db.close()


async def test_a_migration_that_is_stopped_leaves_no_session_behind(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    """By two SIGTERMs at once, while it waits for the lock: killed, it would leave the server waiting for it."""
    config_file = write_config(tmp_path, {"database": {"dsn": postgres_database.dsn}})
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
    holder, db = await postgres_database.connect(), await postgres_database.connect()
    async with holder.transaction():
        await holder.execute(f"SELECT pg_advisory_xact_lock({LOCK_KEY})")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ingestd", "migrate", "-c", str(config_file)), stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(60):
            while not await db.fetchval(waiting):
                await asyncio.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGTERM)
            _, said = await process.communicate()
        async with asyncio.timeout(5):  # it is killed, it would wait for 10 s
            while await db.fetchval(waiting):
                await asyncio.sleep(0.02)
    await holder.close()
    await db.close()
    assert process.returncode == 1
    assert said == b"ingestd: ended by SIGTERM before it was done\n"


async def test_a_reload_never_ends_the_daemon(postgres_database: DatabaseForTest, tmp_path: Path) -> None:
    async with market() as venue:
        config_file = write_config(tmp_path, {"database": {"dsn": postgres_database.dsn}, "feeds": [feed(venue)]})
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 10)
            config_file.write_text(config_file.read_text() + "\n[intakke]\nlinger_ms = 5\n")
            daemon.signal(signal.SIGHUP)
            before = await daemon.received()
            await daemon.until(lambda received: received["trades"] > before["trades"] + 50)
            assert await daemon.stop() == 0
        assert 'did you mean \\"intake\\"?' in daemon.log()


@pytest.fixture
def own_postgres() -> Iterator[EmbeddedPostgres]:
    """A server this test may stop."""
    with EmbeddedPostgres() as postgres:
        yield postgres


async def test_an_outage_at_the_start_is_ridden_out_once_the_database_is_known(
    own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    with temporary_database(Server("postgres", own_postgres.dsn())) as database:
        async with market() as venue:
            config_file = write_config(tmp_path, {"database": {"dsn": database.dsn}, "feeds": [feed(venue)]})
            async with running(config_file) as daemon:
                await daemon.until(lambda received: received.get("trades", 0) > 100)
                assert await daemon.stop() == 0
            postmaster = own_postgres.pid
            assert postmaster is not None
            os.kill(postmaster, signal.SIGSTOP)
            try:
                async with running(config_file) as daemon:
                    await daemon.until(lambda received: received.get("trades", 0) > 100)
                    status, body = await daemon.get("/readyz")
                    assert status == 200, body
                    assert "timescale is down" in body
                    assert (await daemon.total("ingestd_records_stored_total")).get("trades", 0) == 0
                    os.kill(postmaster, signal.SIGCONT)
                    await _until_stored(daemon, 100)
                    await stop_venue(venue, daemon)
                    assert await daemon.stop() == 0
            finally:
                os.kill(postmaster, signal.SIGCONT)
            assert_conserved(daemon.counts())
            assert "database_unreachable_at_start" in daemon.log()
            stored = await stored_trades(database.dsn)
            assert stored.total() == len(stored)


async def _until_stored(daemon: Daemon, count: int) -> None:
    async with asyncio.timeout(60):
        while (await daemon.total("ingestd_records_stored_total")).get("trades", 0) < count:
            await asyncio.sleep(0.1)


async def until_shown(daemon: Daemon, metric: str) -> None:
    async with asyncio.timeout(90):
        while metric not in (await daemon.get("/metrics"))[1]:
            await asyncio.sleep(0.2)


async def test_killed_at_random_moments_nothing_is_lost_or_doubled(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    """What was journaled is stored once; what was not is what the venue sent while nobody listened."""
    async with market(rate=2000.0) as venue:
        document = {"database": {"dsn": postgres_database.dsn, "flush_ms": 20}, "feeds": [feed(venue)]}
        document["backfill"] = {"enabled": False}  # it would fetch what was never sent to us
        config_file = write_config(tmp_path, document)
        for wanted in (300, 700, 150):
            async with running(config_file) as daemon:
                await daemon.until(lambda received, wanted=wanted: received.get("trades", 0) > wanted)  # type: ignore[misc]
                daemon.process.kill()
                await daemon.ended()
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 100)
            await stop_venue(venue, daemon)
            assert await daemon.stop() == 0
        counts = daemon.counts()
        sent = sent_trades(venue)
    assert_conserved(counts)
    stored = await stored_trades(postgres_database.dsn)
    assert set(stored.values()) == {1}
    assert not stored - sent


@pytest.mark.parametrize(
    ("feeds", "extra", "expected"),
    [
        ([{"exchange": "binanse", "symbols": ["BTC/USDT"]}], {}, r"feeds\[0\]\.exchange.*did you mean \"binance\"\?"),
        (
            [{"exchange": "coinbase", "symbols": ["A/B"], "channels": ["open_interest"]}],
            {},
            r"feeds\[0\]\.channels\[0\]",
        ),
        ([{"exchange": "binance", "symbols": ["A/B"], "channels": ["trade"]}], {}, r"did you mean \"trades\"\?"),
        ([{"exchange": "binance", "symbols": ["A/B"], "chanels": ["trades"]}], {}, r"did you mean \"channels\"\?"),
        ([{"exchange": "binance", "symbols": ["A/B"]}], {"intake": {"linger": 5}}, r"intake\.linger.*linger_ms"),
    ],
)
async def test_a_wrong_configuration_ends_in_its_message_and_exit_2(
    tmp_path: Path, feeds: list[dict[str, Any]], extra: dict[str, Any], expected: str
) -> None:
    config_file = write_config(tmp_path, {"database": {"dsn": NOWHERE}, "feeds": feeds, **extra})
    for command in ("check", "run"):
        code, out, err = await ingestd(command, "-c", str(config_file))
        assert code == 2, (out, err)
        assert re.search(expected, err)
        assert "Traceback" not in err


async def test_an_unknown_symbol_names_the_nearest_and_ends_with_2(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    async with market() as venue:
        document = {"database": {"dsn": postgres_database.dsn}, "feeds": [feed(venue, symbols=["BTC/USTD"])]}
        async with running(write_config(tmp_path, document)) as daemon:
            assert await daemon.ended() == 2
        told = [line for line in daemon.log().splitlines() if "BTC/USTD" in line]
        assert len(told) == 1
        event, last = json.loads(told[0]), json.loads(daemon.log().splitlines()[-1])
        assert (event["level"], event["event"]) == ("error", "configuration_wrong")
        assert list(event)[:3] == ["timestamp", "level", "event"]
        (problem,) = event["problems"]
        assert problem.startswith("feeds[0].symbols[0]: ")
        assert "nearest: BTC/USDT" in problem
        assert (last["event"], last["reason"], last["counts"]) == ("stopped", "the configuration is wrong", {})
        assert "Traceback" not in daemon.log()


async def test_one_unknown_symbol_touches_no_other(postgres_database: DatabaseForTest, tmp_path: Path) -> None:
    async with market() as venue:
        symbols = [*feed(venue)["symbols"], "NO/SUCH"]
        document = {"database": {"dsn": postgres_database.dsn}, "feeds": [feed(venue, symbols=symbols)]}
        async with running(write_config(tmp_path, document)) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 50)
            _, body = await daemon.get("/readyz")
            assert "NO/SUCH" in body
            assert await daemon.stop() == 0


async def test_a_feed_whose_symbols_do_not_exist_stops_no_other(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    async with market() as venue:
        feeds = [feed(venue, symbols=["NO/SUCH"]), feed(venue)]
        config_file = write_config(tmp_path, {"database": {"dsn": postgres_database.dsn}, "feeds": feeds})
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 50)
            assert "feed_misconfigured" in daemon.log()
            assert "NO/SUCH" in (await daemon.get("/readyz"))[1]
            assert await daemon.stop() == 0


async def test_two_feeds_of_one_venue_keep_their_own_symbols_over_a_reload(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    async with market() as venue:
        first, *others = feed(venue)["symbols"]
        feeds = [feed(venue, symbols=[first]), feed(venue, symbols=others)]
        config_file = write_config(tmp_path, {"database": {"dsn": postgres_database.dsn}, "feeds": feeds})
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 50)
            write_config(tmp_path, {"database": {"dsn": postgres_database.dsn}, "feeds": feeds[::-1]})
            daemon.signal(signal.SIGHUP)
            before = await daemon.received()
            await daemon.until(lambda received: received["trades"] > before["trades"] + 200)
            await stop_venue(venue, daemon)
            sent = sent_trades(venue)
            assert await daemon.stop() == 0
        assert '"event":"reloaded"' in daemon.log().replace(" ", "")
    assert await stored_trades(postgres_database.dsn) == sent
    assert daemon.counts()["duplicate"] == {}


async def test_a_database_that_does_not_answer_is_named(tmp_path: Path) -> None:
    """`run` waits for it, see test_database_words.py."""
    document = {"database": {"dsn": NOWHERE}, "feeds": [{"exchange": "binance", "symbols": ["BTC/USDT"]}]}
    code, _, err = await ingestd("migrate", "-c", str(write_config(tmp_path, document)))
    assert code == 1, err
    assert "127.0.0.1:1" in err
    assert "Traceback" not in err


async def test_a_database_without_the_schema_says_what_to_run(postgres_server: Server, tmp_path: Path) -> None:
    with temporary_database(postgres_server, migrated=False) as empty:
        document = {"database": {"dsn": empty.dsn}, "feeds": [{"exchange": "binance", "symbols": ["BTC/USDT"]}]}
        code, _, err = await ingestd("run", "-c", str(write_config(tmp_path, document)))
    assert code == 1
    assert "ingestd migrate" in err
    assert "Traceback" not in err


async def test_a_database_that_does_not_exist_or_refuses_is_named(postgres_server: Server, tmp_path: Path) -> None:
    for dsn, expected in (
        (postgres_server.dsn("no_such_database"), "no_such_database"),
        (re.sub(r":[^:@]+@", ":wrong@", postgres_server.dsn("postgres")), "password"),
    ):
        document = {"database": {"dsn": dsn}, "feeds": [{"exchange": "binance", "symbols": ["BTC/USDT"]}]}
        code, _, err = await ingestd("run", "-c", str(write_config(tmp_path, document)))
        assert code == 1
        assert expected in err
        assert "wrong" not in err
        assert "Traceback" not in err


async def test_a_newer_schema_is_refused(postgres_database: DatabaseForTest, tmp_path: Path) -> None:
    db = await postgres_database.connect()
    await db.execute(
        "INSERT INTO ingestd_migrations (version, name, checksum, engine, program_version) "
        "VALUES (9999, 'from_the_future', 'x', 'postgres', '99.0.0')"
    )
    await db.close()
    document = {"database": {"dsn": postgres_database.dsn}, "feeds": [{"exchange": "binance", "symbols": ["BTC/USDT"]}]}
    for command in ("run", "migrate"):
        code, _, err = await ingestd(command, "-c", str(write_config(tmp_path, document)))
        assert code == 1
        assert "from_the_future" in err
        assert "newer" in err
        assert "Traceback" not in err


async def test_a_newer_journal_is_refused_and_kept(postgres_database: DatabaseForTest, tmp_path: Path) -> None:
    journal = tmp_path / "state" / "journal"
    journal.mkdir(parents=True)
    path = journal / "00000001-0123456789abcdef.journal"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA application_id=1229866820")
    connection.execute("PRAGMA user_version=7")
    connection.execute("CREATE TABLE something_new (x)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    document = {"database": {"dsn": postgres_database.dsn}, "feeds": [{"exchange": "binance", "symbols": ["BTC/USDT"]}]}
    code, _, err = await ingestd("run", "-c", str(write_config(tmp_path, document)))
    assert code == 1
    assert "format 7" in err
    assert "newer ingestd" in err
    assert path.read_bytes() == before


async def test_a_taken_port_and_a_taken_state_directory_are_named(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    async with market() as venue:
        config_file = write_config(tmp_path, {"database": {"dsn": postgres_database.dsn}, "feeds": [feed(venue)]})
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 1)
            code, _, err = await ingestd("run", "-c", str(config_file))
            assert code == 1
            assert "another ingestd owns" in err
            env = {"INGESTD_INSTANCE__STATE_DIR": str(tmp_path / "other")}
            code, _, err = await ingestd("run", "-c", str(config_file), env=env)
            assert code == 2
            assert "http.listen" in err
            assert await daemon.stop() == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


async def test_a_full_disk_holds_the_feeds_back_and_loses_nothing(
    postgres_database: DatabaseForTest, tmp_path: Path, small_disk: Path
) -> None:
    """The database is locked until the disk is full: then it takes everything."""
    async with market(rate=3000.0) as venue:
        document = {
            "instance": {"state_dir": str(small_disk / "state")},
            "intake": {"max_open_records": 2000},
            "database": {"dsn": postgres_database.dsn, "flush_timeout_s": 1.0},
            "feeds": [feed(venue, stale_after_s=2)],
        }
        async with running(write_config(tmp_path, document)) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 100)
            db = await postgres_database.connect(lock_timeout_s=None)
            async with db.transaction():
                await db.execute("LOCK TABLE market_ticks, trades IN ACCESS EXCLUSIVE MODE")
                await until_shown(daemon, "\ningestd_journal_full 1.0\n")
                await asyncio.sleep(5)  # longer than stale_after_s: that we do not read is not the venue's silence
                status, body = await daemon.get("/readyz")
                assert status == 503
                assert "journal" in body
                assert (await daemon.get("/livez"))[0] == 200
            await db.close()
            await until_shown(daemon, "\ningestd_journal_full 0.0\n")  # it is tried again within two seconds
            stale = await daemon.total("ingestd_feed_stale_reconnects_total", "feed")
            await stop_venue(venue, daemon)
            assert await daemon.stop() == 0, daemon.log()
        sent = sent_trades(venue)
    assert stale == {"binance": 0}
    assert_conserved(daemon.counts())
    assert daemon.counts()["dropped"] == {}
    assert await stored_trades(postgres_database.dsn) == sent
