"""The section `[influx]`: what is refused, and that no message shows a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ingestd.config.loading import parse
from ingestd.config.models import Config
from ingestd.errors import ConfigError
from ingestd.sinks.influx import setup


def parsed(**options: Any) -> Config:
    return parse({"influx": options}, {}, base=Path("/nowhere"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"url": "localhost:8086"}, "must begin with http:// or https://"),
        ({"url": "http://"}, "name a host"),
        ({"url": "http://h:99999"}, "malformed"),
        ({"url": "http://me:hunter22@h:8086"}, "username"),
        ({"url": "http://h:8086/write?db=x"}, "bucket"),
        ({"bucket": ""}, "bucket"),
        ({"bucket": "a/b/c"}, "bucket"),
        ({"candle_interval": "1 minute"}, "candle_interval"),
        ({"username": "me"}, "go together"),
        ({"username": "me", "password_file": "p", "token_file": "t"}, "either"),
        ({"org": "desk"}, "needs token_file"),
        ({"ca_file": "ca.pem"}, "https://"),
        ({"username": "me password=hunter22", "password_file": "p"}, "username"),
    ],
)
def test_a_mistake_is_told_without_its_secret(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        parsed(**options)
    assert "hunter22" not in str(caught.value)


def test_files_that_cannot_be_read_are_problems() -> None:
    config = parsed(url="https://h", username="me", password_file="no-such-password", ca_file="no-such-ca")
    assert [problem.path for problem in setup.problems(config)] == ["influx.password_file", "influx.ca_file"]
    config = parsed(token_file="no-such-token")
    assert [problem.path for problem in setup.problems(config)] == ["influx.token_file"]
    assert list(setup.problems(parsed())) == []


def test_a_url_with_a_path_keeps_it() -> None:
    """As behind a proxy."""
    config = parsed(url="https://proxy.example.com/influx/")
    assert config.influx is not None  # type: ignore[attr-defined] # a section of SINKS
    assert config.influx.url == "https://proxy.example.com/influx"  # type: ignore[attr-defined] # as above
