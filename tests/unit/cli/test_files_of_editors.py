"""Files as editors and shells of other systems save them: a byte order mark, CRLF, UTF-16, blanks around a password."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestd.cli.loading import load_checked
from ingestd.errors import ConfigError
from ingestd.sinks.redis.options import RedisConfig

TOML = """[database]
dsn_file = "dsn"
password_file = "password"
[redis]
password_file = "password"
[kafka]
sasl_mechanism = "PLAIN"
username = "u"
password_file = "password"
[[feeds]]
exchange = "binance"
symbols_file = "symbols"
channels = ["trades"]
credentials_file = "credentials"
"""
CONTENTS = {
    "ingestd.toml": TOML,
    "dsn": "postgresql://u@h:1/db\n",
    "password": "pass word\n",
    "symbols": "BTC/USDT\nETH/USDT # too\n",
    "credentials": 'apiKey = "k3y-k3y"\n',
}


def write(folder: Path, **changed: bytes) -> Path:
    for name, text in CONTENTS.items():
        (folder / name).write_bytes(changed.get(name.partition(".")[0], text.encode()))
    return folder / "ingestd.toml"


@pytest.mark.parametrize(
    "saved",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
        lambda text: text.rstrip("\n").encode(),
        lambda text: (text + "\n\n").encode(),
    ],
)
def test_the_same_configuration_comes_of_it(tmp_path: Path, saved: object) -> None:
    assert callable(saved)
    config = load_checked(write(tmp_path, **{name.partition(".")[0]: saved(text) for name, text in CONTENTS.items()}))
    assert config.database is not None
    assert config.kafka is not None
    assert config.database.resolved_dsn() == "postgresql://u:pass%20word@h:1/db"
    assert (config.section(RedisConfig).password(), config.kafka.password()) == ("pass word", "pass word")
    assert config.feeds[0].symbols == ["BTC/USDT", "ETH/USDT"]
    assert config.feeds[0].credentials() == {"apiKey": "k3y-k3y"}


@pytest.mark.parametrize("name", ["ingestd", "dsn", "password", "symbols", "credentials"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_another_encoding_is_named(tmp_path: Path, name: str, encoding: str) -> None:
    text = next(text for known, text in CONTENTS.items() if known.partition(".")[0] == name)
    file = write(tmp_path, **{name: (f"# é\n{text}" if encoding == "latin-1" else text).encode(encoding)})
    with pytest.raises(ConfigError, match=r"it is (UTF-16, or no text at all|not UTF-8 \(byte 2\)): save it as UTF-8"):
        load_checked(file)


@pytest.mark.parametrize("blank", [b"", b"\n", b" \r\n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", ["dsn", "password"])
def test_an_empty_secret_is_a_mistake(tmp_path: Path, name: str, blank: bytes) -> None:
    with pytest.raises(ConfigError, match=rf"{name}_file: .*{name} is empty"):
        load_checked(write(tmp_path, **{name: blank}))
