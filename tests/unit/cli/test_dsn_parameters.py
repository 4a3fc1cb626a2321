"""Every parameter of libpq in a DSN: what `check` passes can be connected with, what it refuses it names."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from ingestd.cli.loading import load_checked
from ingestd.config.models import Config
from ingestd.config.toml_text import to_toml
from ingestd.errors import ConfigError, ConnectionLost, DatabaseError
from ingestd.storage.database import Database
from tests.support import libpq
from tests.support.postgres_doubles import double

# A value that somebody would write, where libpq's own default says nothing.
VALUES = {
    "host": ["127.0.0.1", "127.0.0.1,127.0.0.1", "/run/postgresql", "a..b"],
    "hostaddr": ["127.0.0.1", "::1", "name"],
    "port": ["{port}", "{port},{port}", "0", "x"],
    "dbname": ["market"],
    "user": ["me"],
    "password": ["x"],
    "passfile": ["/nowhere"],
    "service": ["nobody"],
    "connect_timeout": ["10", "0", "-1", " 5 ", "5.5", "x"],
    "application_name": ["mine"],
    "options": ["-c search_path=x"],
    "client_encoding": ["utf8", "auto", "LATIN1"],
    "replication": ["false", "database"],
    "sslmode": ["disable", "prefer", "x"],
    "sslnegotiation": ["postgres", "direct"],
    "sslcompression": ["0", "1"],
    "sslrootcert": ["system", "/nowhere"],
    "sslcert": ["/nowhere"],
    "ssl_min_protocol_version": ["TLSv1.2", "TLSv1.3", "SSLv3"],
    "channel_binding": ["disable", "prefer", "require"],
    "gssencmode": ["prefer", "require"],
    "target_session_attrs": ["any", "primary", "read-write", "standby", "prefer-standby", "read-only", "x"],
    "load_balance_hosts": ["disable", "random", "x"],
}
STARTS_WITH = {"user", "database", "client_encoding", "application_name"}


@pytest.fixture
def config_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Config | str]:
    """What `check` makes of a DSN: the configuration, or its words."""
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "ingestd.toml"

    def checked(dsn: str) -> Config | str:
        file.write_text(to_toml({"database": {"dsn": dsn}}), encoding="utf-8")
        try:
            return load_checked(file)
        except ConfigError as error:
            return str(error)

    return checked


@pytest.mark.parametrize("name", libpq.parameters())
async def test_a_parameter_is_taken_or_refused_by_name(name: str, config_of: Callable[[str], Config | str]) -> None:
    async with double("serves") as live:
        for value in VALUES.get(name, ["1", "x"]):
            parameters = {"host": "127.0.0.1", "port": str(live.port), "user": "me", "dbname": "db"}
            parameters[name] = value.format(port=live.port)
            words = " ".join(f"{key}='{text}'" for key, text in parameters.items())
            url = "postgresql:///?" + "&".join(f"{key}={text.replace(' ', '%20')}" for key, text in parameters.items())
            for dsn in (words, url):
                config = config_of(dsn)
                if isinstance(config, str):
                    assert name in config, (name, value)
                    continue
                assert config.database is not None
                with contextlib.suppress(ConnectionLost, DatabaseError):
                    database = await Database.connect(config.database.resolved_dsn(), connect_timeout_s=1)
                    # Through PgBouncer any other parameter of the start is fatal.
                    assert live.sessions[-1].keys() - {""} == STARTS_WITH
                    await database.close()
