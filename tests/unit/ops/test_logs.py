"""Log lines: their form, and that no secret is in them."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from ingestd.config.models import LogConfig
from ingestd.config.secrets import hide, redact
from ingestd.ops import logs

CANARY = "hunter2Zx9q"


@pytest.fixture
def restored() -> Iterator[None]:
    """Logging as pytest wants it, whatever a test configured."""
    root = logging.getLogger()
    handlers, level, before = list(root.handlers), root.level, structlog.get_config()
    yield
    for handler in [known for known in root.handlers if known not in handlers]:
        root.removeHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.configure(**before)


@pytest.fixture
def stream(restored: None) -> io.StringIO:
    return io.StringIO()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def configured(stream: io.StringIO, level: str = "info", form: str = "json") -> Any:
    logs.configure(LogConfig.model_validate({"level": level, "format": form}), stream)
    return structlog.get_logger("ingestd.test")


class TestForm:
    def test_a_line_that_json_cannot_hold_is_not_lost(self, stream: io.StringIO) -> None:
        configured(stream).info("counted", big=2**80)
        assert "counted" in lines(stream)[0]["event"]

    def test_json_has_time_level_logger_and_fields(self, stream: io.StringIO) -> None:
        configured(stream).warning("feed lost", feed="kraken", attempt=3)
        (line,) = lines(stream)
        stamp = line.pop("timestamp")
        assert stamp.endswith("Z")
        assert line == {
            "event": "feed lost",
            "level": "warning",
            "logger": "ingestd.test",
            "feed": "kraken",
            "attempt": 3,
        }

    def test_a_file_gets_json_and_a_terminal_text(self, restored: None) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        file, terminal = io.StringIO(), Terminal()
        configured(file, form="auto").info("hello")
        assert lines(file)[0]["event"] == "hello"
        configured(terminal, form="auto").info("hello")
        assert "hello" in terminal.getvalue()
        assert not terminal.getvalue().startswith("{")
        assert len(lines(file)) == 1, "configuring again moves the log, it does not copy it"

    def test_the_level_is_the_configured_one(self, stream: io.StringIO) -> None:
        logger = configured(stream, "warning")
        logger.info("no")
        logging.getLogger("some.library").info("no")
        logger.error("yes")
        assert [line["event"] for line in lines(stream)] == ["yes"]

    def test_libraries_take_the_same_way(self, stream: io.StringIO) -> None:
        configured(stream)
        logging.getLogger("asyncio").error("Task %s was destroyed", "x")
        assert lines(stream)[0]["event"] == "Task x was destroyed"
        assert lines(stream)[0]["logger"] == "asyncio"

    @pytest.mark.parametrize(
        "library",
        ["picows.ingestd.26", "websockets.client", "aiohttp.access", "aiokafka.cluster", "redis", "ccxt", "asyncio"],
    )
    def test_no_librarys_socket_is_a_line(self, library: str, stream: io.StringIO) -> None:
        configured(stream).info("ours")
        logging.getLogger(library).info("WS connection established")
        assert [line["event"] for line in lines(stream)] == ["ours"]

    def test_chatty_libraries_stay_at_info(self, stream: io.StringIO) -> None:
        configured(stream, "debug").debug("ours")
        logging.getLogger("ccxt.base.exchange").debug("headers and all")
        assert [line["event"] for line in lines(stream)] == ["ours"]

    def test_warnings_are_logged(self, stream: io.StringIO) -> None:
        configured(stream)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(True)
            warnings.warn("old way", DeprecationWarning, stacklevel=1)
        assert "old way" in lines(stream)[0]["event"]

    @pytest.mark.parametrize("form", ["json", "console"])
    def test_tracebacks_are_shown(self, stream: io.StringIO, form: str) -> None:
        logger = configured(stream, form=form)
        try:
            raise RuntimeError("boom")
        except RuntimeError:
            logger.exception("failed")
        assert "RuntimeError: boom" in stream.getvalue()
        assert "Traceback" in stream.getvalue()


BLANKS = ["\n", "\t", "\r", "\x0b", "\x0c", "\x1b", "\x1c", "\x85", "\xa0", "\u2003", "\u3000", "\u200b", "\ufeff"]
SECRET_TEXTS = [
    f"postgresql://ingestd:{CANARY}@db:5432/market",
    f"postgres://ingestd:{CANARY}/with@at@db/market",
    f"redis://:{CANARY}@localhost:6379/0",
    f"https://user:{CANARY}@proxy.example/",
    f"host=db password={CANARY} dbname=market",
    f"host=db password='{CANARY} x' dbname=market",
    f"postgresql://db/market?user=a&password={CANARY}",
    f"GET https://api.example.com/v3/account?timestamp=1&signature={CANARY} 401",
    f"?apiKey={CANARY}&x=1",
    f"?listenKey={CANARY}",
    f"{{'X-MBX-APIKEY': '{CANARY}', 'a': 1}}",
    f'{{"apiKey": "{CANARY}"}}',
    f'{{"api_secret":"{CANARY}"}}',
    f"{{'OK-ACCESS-PASSPHRASE': '{CANARY}'}}",
    f"{{'CB-ACCESS-KEY': '{CANARY}'}}",
    f"{{'API-Sign': '{CANARY}=='}}",
    f"{{'privateKey': '{CANARY}'}}",
    f"{{'clientSecret': '{CANARY}'}}",
    f"Authorization: Bearer {CANARY}",
    f"token={CANARY}",
    *(repr(f"{blank}password={CANARY}") for blank in BLANKS),
    *(json.dumps(f"{blank}password={CANARY}") for blank in BLANKS),
    *(f"user=u{quote(blank)}password%3D{CANARY}" for blank in BLANKS),
    *(f"user=u{blank}password{blank}={blank}{CANARY}" for blank in BLANKS if blank.isspace()),
    repr(f"\ttoken: {CANARY}"),
    repr(f"\x1bapiKey={CANARY}"),
    repr(f"password\u00a0={CANARY}"),
    repr(f"password=\u00a0{CANARY}"),
    f"\\033secret={CANARY}",
    f"\x1b[31mpassword={CANARY}\x1b[0m",
    json.dumps(json.dumps({"apiKey": CANARY})),
    f"postgresql://u%C2%A0password%3D{CANARY}@db/market",
    f"postgresql://db/market?application_name=x%20password%3d{CANARY}",
    f"u%C2%A0password%253D{CANARY}",
    f"x%0Atoken%3A%20{CANARY}",
    f"passwor%64%3D{CANARY}",
    f"a%20b%3Dx%26passwor%64%3D{CANARY}",
    f"PGPASSWORD={CANARY} psql",
    f"{{'PGPASSWORD': '{CANARY}'}}",
    f"psql --password {CANARY} market",
    f"tool --db-password '{CANARY} x' market",
    f"tool -token {CANARY}",
    f"Command '['tool', '--password', '{CANARY}']' returned 1",
    f"AUTH u {CANARY}",
    f"AUTH {CANARY}",
    f"HELLO 3 AUTH u {CANARY} SETNAME x",
    f"['AUTH', 'u', '{CANARY}']",
    f"[b'AUTH', b'u', b'{CANARY}']",
]  # fmt: skip


class TestRedaction:
    @pytest.mark.parametrize("text", SECRET_TEXTS)
    def test_secrets_are_found_by_their_shape(self, text: str) -> None:
        assert CANARY not in redact(text)
        assert "***" in redact(text)

    @pytest.mark.parametrize(
        "text",
        [
            "wss://stream.binance.com:9443/ws/btcusdt@trade",
            "wss://stream.binance.com:9443/stream?streams=btcusdt@depth20@100ms/ethusdt@trade",
            "http://127.0.0.1:9108/metrics",
            "postgresql://ingestd@localhost:5432/market",
            "COPY trades, line 777, column price: 'x'",
            "price=1.5 quantity=2 symbol=BTC/USDT key=binance:BTC/USDT",
            "assigned partition=3 design=x",
            "assigned%20partition%3D3%20design%3Dx",
            "the server says: ERR AUTH <password> called without any password configured",
            "NOAUTH Authentication required., AUTH failed",
            "psql --no-password market --password-file /run/secrets/x",
            "check the password (the variable PGPASSWORD) and the user",
            r"database.password: unknown key\npassword is missing",
        ],
    )
    def test_the_rest_is_left_alone(self, text: str) -> None:
        assert redact(text) == text

    @pytest.mark.parametrize("form", ["json", "console"])
    @pytest.mark.parametrize("text", SECRET_TEXTS)
    def test_no_line_has_one(self, stream: io.StringIO, form: str, text: str) -> None:
        logger = configured(stream, "debug", form)
        logger.info(f"dialling {text}")
        logger.info("dialling", url=text, nested={"urls": [text]}, error=ValueError(text))
        logging.getLogger("ccxt").warning("failed: %s", text)
        try:
            try:
                raise ValueError(text)
            except ValueError as error:
                raise RuntimeError("outer") from error
        except RuntimeError:
            logger.exception("failed")
            logging.getLogger("aiohttp").exception("failed")
        assert "failed" in stream.getvalue()
        assert CANARY not in stream.getvalue()

    @pytest.mark.parametrize(
        "name",
        [
            "password",
            "apiKey",
            "api_key",
            "secret",
            "X-MBX-APIKEY",
            "token",
            "db_password",
            "clientSecret",
            "signature",
        ],
    )
    def test_a_field_is_hidden_by_its_name(self, stream: io.StringIO, name: str) -> None:
        configured(stream).info("x", **{name: CANARY, "options": {name: [CANARY]}})
        assert CANARY not in stream.getvalue()

    @pytest.mark.parametrize("name", ["key", "symbol", "design", "tokens_left", "sequence", "compass"])
    def test_a_field_of_another_name_is_shown(self, name: str) -> None:
        assert logs.redact_value("value", name) == "value"

    def test_a_value_made_known_is_hidden_everywhere(self, stream: io.StringIO) -> None:
        hide("Correct/Horse")
        configured(stream).info("it was Correct/Horse", a="Correct/Horse!")
        assert "Horse" not in stream.getvalue()

    def test_a_short_value_is_not_hidden(self) -> None:
        hide("ab")
        assert redact("about") == "about"

    @given(st.text(max_size=200))
    def test_any_text_survives(self, text: str) -> None:
        assert isinstance(redact(text), str)

    @given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6, max_size=40))
    def test_any_dsn_password_is_hidden(self, password: str) -> None:
        assert redact(f"dial postgresql://u:{password}@db/market") == "dial postgresql://u:***@db/market"


class TestATerminal:
    EVIL = "a\x1b[2Jb\rc\x00d\x9b31me\u202ef\u2066g\x7fh\n2026-01-01T00:00:00Z [error    ] forged"

    def test_is_not_steered_by_what_came_from_outside(self, stream: io.StringIO) -> None:
        log = configured(stream, form="console")
        log.warning(
            self.EVIL, reason=self.EVIL, problems=[self.EVIL], counts={self.EVIL: 1}, error=ValueError(self.EVIL)
        )
        logging.getLogger("aiohttp").warning("lost: %s", self.EVIL)
        try:
            raise ValueError(self.EVIL)
        except ValueError:
            log.exception("broken")
        printed = stream.getvalue()
        assert all(character.isprintable() or character == "\n" for character in printed)
        assert not [line for line in printed.splitlines() if line.startswith("2026-01-01")]
        assert "a?[2Jb?c?d?31me?f?g?h" in printed

    def test_reads_json_lines_of_the_same_meaning(self, stream: io.StringIO) -> None:
        configured(stream).warning("disconnected", reason=self.EVIL, name="\u6bd4\u7279\u5e01 \U000e0041\U0001f600")
        (line,) = stream.getvalue().splitlines()
        assert line.isprintable()
        assert json.loads(line)["reason"] == self.EVIL
        assert json.loads(line)["name"] == "\u6bd4\u7279\u5e01 \U000e0041\U0001f600"
        assert "\u6bd4\u7279\u5e01" in line, "other scripts stay readable"
