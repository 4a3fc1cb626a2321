"""Passwords and certificates against a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from ingestd.config.models import KafkaConfig
from ingestd.errors import AccessRefused, ConnectionLost
from ingestd.kafka.producer import Producer
from tests.support.brokers import ApacheKafka, Secured, apache_jars, config_for
from tests.support.kafka_rig import send
from tests.support.records import trade
from tests.support.topics import read_everything


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("secured")
    (made / "right").write_text("hunter22\n")
    (made / "wrong").write_text("hunter23\n")
    return made


@pytest.fixture(scope="module")
def secured(folder: Path) -> Iterator[ApacheKafka]:
    with ApacheKafka(apache_jars(), Secured.create(folder)) as broker:
        yield broker


@pytest.fixture(autouse=True)
async def connections_have_said_goodbye() -> AsyncIterator[None]:
    """A TLS connection that is closed waits for the other side's last word, a moment longer than its test."""
    yield
    transports = asyncio.get_running_loop()._transports  # type: ignore[attr-defined]
    async with asyncio.timeout(60):
        while any(transport._sock is not None for transport in list(transports.values())):
            await asyncio.sleep(0.01)


def config(broker: ApacheKafka, folder: Path, **changes: Any) -> KafkaConfig:
    return config_for(
        broker,
        **{
            "bootstrap_servers": [broker.secured_bootstrap],
            "tls": True,
            "ca_file": folder / "certificate.pem",
            "sasl_mechanism": "SCRAM-SHA-512",
            "username": "ingestd",
            "password_file": folder / "right",
            "request_timeout_s": 60,  # a busy machine is slow at handshakes, and a timeout is no refusal
            **changes,
        },
    )


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_a_password_over_tls(secured: ApacheKafka, folder: Path, tmp_path: Path, mechanism: str) -> None:
    wanted = config(secured, folder, sasl_mechanism=mechanism)
    made = await send(tmp_path, wanted, [trade(1)])
    assert made.total("stored") == {"trades": 1}
    found = read_everything(secured.bootstrap, wanted.topic_prefix)
    assert sum(map(len, found.values())) == 1


@pytest.mark.parametrize(
    "changes", [{"password_file": "wrong"}, {"username": "nobody"}, {"sasl_mechanism": "SCRAM-SHA-256"}]
)
async def test_refused_credentials_say_so(secured: ApacheKafka, folder: Path, changes: dict[str, str]) -> None:
    if "password_file" in changes:
        changes = {"password_file": str(folder / changes["password_file"])}
    with pytest.raises(AccessRefused, match=r"kafka\.username") as caught:
        await Producer.connect(config(secured, folder, **changes), "test", [])
    assert "hunter" not in str(caught.value)


async def test_a_certificate_nobody_vouches_for_is_refused(secured: ApacheKafka, folder: Path) -> None:
    with pytest.raises(ConnectionLost, match="certificate verify failed"):
        await Producer.connect(config(secured, folder, ca_file=None, request_timeout_s=2), "test", [])
