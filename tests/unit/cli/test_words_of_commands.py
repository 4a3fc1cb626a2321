"""What the commands say to one who uses them for the first time: what is wrong, where, and what to write instead."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from ingestd.cli import main
from ingestd.errors import FeedError

SINK = '[database]\ndsn = "postgresql://u@h/d"\n'
FEED = '[[feeds]]\nexchange = "binance"\nchannels = ["trades"]\nsymbols = ["BTC/USDT"]\n'


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command: its exit code and what it printed on standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        code = ended.value.code
        assert isinstance(code, int)
        return code, out, err

    return run


def write(folder: Path, text: str) -> str:
    file = folder / "ingestd.toml"
    file.write_text(text.replace("[database]", f'[instance]\nstate_dir = "{folder}"\n[database]', 1), encoding="utf-8")
    return str(file)


@pytest.mark.parametrize(
    ("channels", "symbols", "pointless"),
    [
        (["funding", "open_interest", "trades"], ["BTC/USDT"], ["funding", "open_interest"]),
        (["trades", "funding"], ["*/USDT", "BTC/USDC"], ["funding"]),
        (["trades", "funding", "open_interest"], ["BTC/USDT:USDT-261225"], ["funding"]),
        (["trades", "funding", "open_interest"], ["BTC/USDT", "BTC/USDT:USDT"], []),
        (["trades", "funding", "open_interest"], ["*"], []),
        (["trades", "funding", "open_interest"], ["BTC/*"], []),
    ],
)
def test_a_channel_that_no_symbol_of_the_feed_has_is_noted(
    told: Any, tmp_path: Path, channels: list[str], symbols: list[str], pointless: list[str]
) -> None:
    file = write(tmp_path, f'{SINK}[[feeds]]\nexchange = "binance"\nchannels = {channels}\nsymbols = {symbols}\n')
    code, _, err = told("check", "-c", file)
    assert code == 0
    noted = [line for line in err.splitlines() if "no symbol of this feed has" in line]
    assert len(noted) == len(pointless)
    for line, channel in zip(noted, pointless, strict=True):
        assert line.startswith(f"ingestd: note: feeds[0].channels[{channels.index(channel)}]: ")
        assert channel in line


@pytest.mark.parametrize("section", ["database", "redis", "kafka"])
def test_a_password_file_that_is_not_there_is_named_with_its_option(told: Any, tmp_path: Path, section: str) -> None:
    missing = tmp_path / "credentials" / "ingestd.service" / "password"
    more = {"redis": "[redis]\n", "kafka": '[kafka]\nsasl_mechanism = "PLAIN"\nusername = "u"\n'}.get(section, "")
    code, _, err = told("check", "-c", write(tmp_path, f'{SINK}{more}password_file = "{missing}"\n{FEED}'))
    assert code == 2
    assert f"{section}.password_file: {missing} cannot be read: no such file" in err
    assert "***" not in err


@pytest.mark.parametrize("name", ["password", "secret", "token", "credentials"])
def test_the_name_of_a_file_makes_no_secret_of_the_sentence(told: Any, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    for text, why in ((None, "cannot be read: no such file"), ("", "is empty")):
        if text is not None:
            file.write_text(text, encoding="utf-8")
        for key in ("database.dsn_file", "feeds.credentials_file"):
            section, _, option = key.partition(".")
            line = f'{option} = "{file}"\n'
            sink = f"[database]\n{line}" if section == "database" else SINK
            code, _, err = told("check", "-c", write(tmp_path, sink + FEED + (line if section == "feeds" else "")))
            assert code == 2
            assert f"ingestd: {key}: {file} {why}\n" in err


@pytest.mark.parametrize("section", ["redis", "kafka"])
def test_a_password_as_a_key_is_an_unknown_key_and_not_shown(told: Any, tmp_path: Path, section: str) -> None:
    code, _, err = told("check", "-c", write(tmp_path, f'{SINK}{FEED}[{section}]\npassword = "CANARY"\n'))
    assert code == 2
    assert f'ingestd: {section}.password: unknown key; did you mean "password_file"?\n' in err
    assert "CANARY" not in err


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        (FEED, "ok: 1 feed, 1 symbol; sinks: database"),
        (
            f'[redis]\n{FEED.replace("BTC/USDT", "*/USDT")}[[feeds]]\nexchange = "kraken"\nsymbols = ["BTC/USD"]\n',
            "ok: 2 feeds, 1 symbol, 1 pattern; sinks: database, redis",
        ),
        (FEED.replace('["BTC/USDT"]', '["BTC/USDT", " BTC/USDT "]'), "ok: 1 feed, 2 symbols; sinks: database; 1 note"),
        (
            FEED.replace('["trades"]', '["trades", "trades", "funding"]'),
            "ok: 1 feed, 1 symbol; sinks: database; 2 notes",
        ),
    ],
)
def test_the_last_line_of_check_is_its_verdict(told: Any, tmp_path: Path, more: str, verdict: str) -> None:
    code, _, err = told("check", "-c", write(tmp_path, SINK + more))
    assert (code, err.splitlines()[-1]) == (0, f"ingestd: {verdict}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SINK + FEED.replace("BTC/USDT", ""), "feeds[0].symbols[0]: must not be empty (found '')"),
        (SINK + FEED.replace("BTC/USDT", "  "), "feeds[0].symbols[0]: must not be empty (found '  ')"),
        (SINK + FEED.replace("[[feeds]]", "[feeds]"), "write [[feeds]], with two brackets"),
        (SINK + FEED.replace("[[feeds]]", "[feeds.binance]"), "write [[feeds]], with two brackets"),
        (SINK.replace("[database]", "[[database]]") + FEED, "write [database], with one bracket"),
        (SINK + FEED + "[[redis]]\n", "write [redis], with one bracket"),
    ],
)
def test_a_mistake_says_what_to_write_and_the_last_line_the_file(
    told: Any, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "ingestd.toml"
    file.write_text(text, encoding="utf-8")
    code, _, err = told("check", "-c", str(file))
    assert code == 2
    assert said in err
    assert err.splitlines()[-1] == f"ingestd: 1 mistake in {file}"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("INGESTD_HTTP_LISTEN", "INGESTD_HTTP__LISTEN"),
        ("INGESTD_DATABASE_PASSWORD_FILE", "INGESTD_DATABASE__PASSWORD_FILE"),
        ("INGESTD_LOG_LEVEL", "INGESTD_LOG__LEVEL"),
        ("INGESTD_TEST_DSN", None),
        ("INGESTD_FAILPOINT", None),
        ("INGESTD_HOME", None),
    ],
)
def test_one_underscore_in_the_place_of_two(
    told: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, meant: str | None
) -> None:
    monkeypatch.setenv(name, "CANARY" if meant else "")
    code, _, err = told("check", "-c", write(tmp_path, SINK + FEED))
    assert code == (2 if meant else 0)
    assert (f"ingestd: {name}: overrides nothing; write {meant}, with two underscores\n" in err) == (meant is not None)
    assert "CANARY" not in err


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("INGESTD_HTTP__LISTN", "x", 'unknown key; did you mean "listen"?'),
        ("INGESTD_HTTP__LISTEN", "nonsense", "must be"),
        ("INGESTD_DATABASE__DSN", "mysql://h/d", "is neither"),
    ],
)
def test_a_mistake_in_a_variable_is_not_counted_as_one_of_the_file(
    told: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    code, _, err = told("check", "-c", write(tmp_path, SINK + FEED))
    assert code == 2
    lines = err.splitlines()
    assert lines[0].startswith(f"ingestd: {variable}: {said}")
    assert lines[1:] == ["ingestd: 1 mistake in the environment"]
    file = write(tmp_path, SINK + FEED + "[lgo]\n[intake]\nlinger_ms = 0\n")
    _, _, err = told("check", "-c", file)
    assert f"ingestd: {variable}: {said}" in err
    assert err.splitlines()[-1] == f"ingestd: 2 mistakes in {file}, 1 mistake in the environment"


@pytest.mark.parametrize("command", [["check"], ["migrate"], ["migrate", "status"], ["gaps"], ["doctor"]])
def test_every_mistake_of_the_database_is_told_at_once(told: Any, tmp_path: Path, command: list[str]) -> None:
    file = write(tmp_path, '[database]\ndsn = "postgres//x"\nflush_ms = "abc"\nfoo = 1\n' + FEED)
    code, _, err = told(*command, "-c", file)
    assert code == 2
    for key in ("dsn", "flush_ms", "foo"):
        assert f"ingestd: database.{key}: " in err
    assert err.splitlines()[-1] == f"ingestd: 3 mistakes in {file}"


# cryptofeed's ids are those of its defines.py.
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("BINANCE", "binance"),
        ("BINANCE_FUTURES", "binanceusdm"),
        ("BINANCE_DELIVERY", "binancecoinm"),
        ("BINANCE_US", "binanceus"),
        ("KRAKEN_FUTURES", "krakenfutures"),
        ("HUOBI", "htx"),
        ("HUOBI_SWAP", "htx"),
        ("GATEIO", "gate"),
        ("OKX", "okx"),
        ("CRYPTO.COM", "cryptocom"),
        ("krakne", "kraken"),
        ("bittrex", None),
        ("nonesuch", None),
    ],
)
@pytest.mark.parametrize("command", ["check", "exchanges"])
def test_the_nearest_exchange_is_near_or_none(
    told: Any, tmp_path: Path, command: str, name: str, meant: str | None
) -> None:
    file = write(tmp_path, SINK + FEED.replace("binance", name))
    code, _, err = told(*(["check", "-c", file] if command == "check" else ["exchanges", name]))
    assert code == 2
    assert ("did you mean" in err) == (meant is not None)
    assert (f'did you mean "{meant}"?' in err) == (meant is not None)
    assert "`ingestd exchanges` lists them" in err


def test_a_mistake_in_a_symbols_file_is_at_its_line(told: Any, tmp_path: Path) -> None:
    symbols = tmp_path / "symbols.txt"
    symbols.write_text("# spot\nBTC/USDT\n\nBTCUSDT # compact\n", encoding="utf-8")
    feed = FEED.replace('symbols = ["BTC/USDT"]', f'symbols = ["ETH/USDT"]\nsymbols_file = "{symbols}"')
    code, _, err = told("check", "-c", write(tmp_path, SINK + feed))
    assert code == 0
    assert f"ingestd: note: {symbols}:4: does not look like a unified symbol" in err
    symbols.unlink()
    code, _, err = told("check", "-c", write(tmp_path, SINK + feed))
    assert code == 2
    assert err.splitlines()[0] == f"ingestd: feeds[0].symbols_file: {symbols} cannot be read: no such file"


def test_init_prints_the_notes_of_check(told: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = told("init", "--symbols", "BTCUSDT")
    assert code == 0
    assert (tmp_path / "ingestd.toml").exists()
    assert "feeds[0].symbols[0]: does not look like a unified symbol" in err
    assert 'did you mean "BTC/USDT"?' in err
    code, _, err = told("check")
    assert code == 2
    assert "-c ingestd.toml" in err


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (["--from", "2999-01-01"], "--from: is in the future (found '2999-01-01')"),
        (["--from", "2h", "--to", "2999-01-01"], "--to: is in the future"),
        (["--from", "1h", "--to", "2h"], "--to: is not after --from (found '2h')"),
        (["--from", "1s"], "--from: is not before the end, which is 20"),
        (["--from", "2 hours"], "--from: is no time (found '2 hours'); write 30m, 2h or 7d (ago)"),
    ],
)
def test_times_have_one_grammar_and_are_blamed_on_their_option(
    told: Any, tmp_path: Path, times: list[str], said: str
) -> None:
    stream = ["--exchange", "binance", "--symbol", "BTC/USDT", "--channel", "trades"]
    code, _, err = told("backfill", "-c", write(tmp_path, SINK + FEED), *stream, *times)
    assert code == 2
    assert said in err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["chekc"], 2, "there is no command 'chekc'; did you mean \"check\"?"),
        (["xyz"], 2, "there is no command 'xyz'; `ingestd --help` lists them"),
        (["demo", "--seconds", "abc"], 2, "'abc' is not a valid number"),
        (["gaps", "--limit", "abc"], 2, "'abc' is not a valid integer"),
        (["check", "-c", "/tmp"], 2, "ingestd: /tmp: cannot be read: it is a directory\n"),
        (
            ["exchanges", "binance", "--match", "*", "-c", "/nowhere"],
            2,
            "ingestd: /nowhere: cannot be read: no such file\n",
        ),
        (["migrate", "roles", "-c", "/nowhere"], 0, ""),
        (["exchanges", ""], 2, "ingestd: '': "),
    ],
)
def test_wrong_usage_is_told_in_plain_words(told: Any, arguments: list[str], code: int, said: str) -> None:
    ended, _, err = told(*arguments)
    assert ended == code
    assert said in err


@pytest.mark.parametrize(("error", "end"), [("is `url_map` right?", "right? Check"), ("no answer", "no answer. Check")])
def test_the_advice_on_a_venue_out_of_reach_is_a_sentence_of_its_own(
    told: Any, monkeypatch: pytest.MonkeyPatch, error: str, end: str
) -> None:
    async def listed(*_: object) -> None:
        raise FeedError(error)

    monkeypatch.setattr("ingestd.feeds.catalog.listed", listed)
    code, _, err = told("exchanges", "binance", "--match", "*/USDT")
    assert code == 1
    assert end in err


@pytest.mark.parametrize(
    ("channels", "timeframe", "noted"),
    [('["trades"]', "7m", True), ('["trades"]', "1m", False), ('["trades", "candles"]', "5m", False)],
)
def test_a_timeframe_without_candles_is_noted(
    told: Any, tmp_path: Path, channels: str, timeframe: str, noted: bool
) -> None:
    feed = FEED.replace('["trades"]', channels) + f'candle_timeframe = "{timeframe}"\n'
    code, _, err = told("check", "-c", write(tmp_path, SINK + feed))
    assert code == 0
    note = f"feeds[0].candle_timeframe: has no effect without the channel candles (found '{timeframe}')"
    assert (note in err) == noted


def test_a_file_that_may_not_be_read_is_told_in_one_line(
    told: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    file = write(tmp_path, SINK + FEED)
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    monkeypatch.setattr("ingestd.config.loading.read_text", refused)
    code, _, err = told("check", "-c", file)
    assert (code, err) == (2, f"ingestd: {file}: cannot be read: this user may not\n")
