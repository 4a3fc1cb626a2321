"""What is said of a broker that cannot do what is asked, or is not there: its name, what is wrong, what to do."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import pytest
import structlog.testing
from aiokafka import errors as library

from ingestd.config.models import KafkaConfig
from ingestd.errors import AccessRefused, ConnectionLost, NotIdempotent, Reaction, is_known, reaction_to
from ingestd.kafka.connecting import ensure_topics
from ingestd.kafka.errors import not_idempotent, our_error, translated
from ingestd.sinks.kafka.setup import try_kafka
from tests.support.brokers import Broker, config_for, running_broker
from tests.support.group import Member, member
from tests.support.kafka_rig import KafkaRig
from tests.support.postgres import DatabaseForTest


async def test_a_broker_without_idempotence_says_which_option_to_set(embedded_kafka: Broker, tmp_path: Path) -> None:
    config = config_for(embedded_kafka, idempotent=True)
    with structlog.testing.capture_logs() as lines:
        made = KafkaRig(tmp_path, config)
        async with asyncio.timeout(60):
            while not made.sink.status().attempts_failed:
                await asyncio.sleep(0.01)
        problem = made.sink.status().problem
        await made.crash()
    assert "set kafka.idempotent = false" in (problem or "")
    assert embedded_kafka.bootstrap in (problem or "")
    [line] = [line for line in lines if line["event"] == "sink_write_failed"]
    assert line["error"] == problem
    assert not line["exc_info"]
    assert line["log_level"] == "error"  # a person must act


async def test_a_broker_is_tried(kafka: Broker) -> None:
    config = config_for(kafka)
    there, missing = (f"{config.topic_prefix}.market.{kind}" for kind in ("trades", "ticks"))
    await ensure_topics(config, "test", [there])
    answer = await try_kafka(config, "test", [there, missing])
    assert answer.brokers == (kafka.bootstrap,)
    assert answer.missing_topics == (missing,)
    if config.idempotent:
        assert answer.idempotence is None
    else:
        assert "set kafka.idempotent = false" in (answer.idempotence or "")
    assert (await try_kafka(config, "test", [there, missing])).missing_topics == (missing,)  # it changed nothing


async def test_every_broker_that_is_not_there_is_named_with_its_reason() -> None:
    config = KafkaConfig(bootstrap_servers=["127.0.0.1:1", "no-such-host.invalid:9092"], request_timeout_s=5)
    with pytest.raises(ConnectionLost) as caught:
        await try_kafka(config, "test", [])
    text = str(caught.value)
    assert "no broker answers" in text
    assert "127.0.0.1:1 refuses the connection" in text
    assert "no-such-host.invalid:9092 is not a name that can be resolved" in text


async def test_a_broker_that_takes_the_connection_and_says_nothing_is_told_of() -> None:
    started_s = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConnectionLost, match=f"Kafka at {place}: no broker answers"):
            await try_kafka(KafkaConfig(bootstrap_servers=[place], request_timeout_s=1), "test", [])
    assert time.monotonic() - started_s < 10


async def test_the_broker_that_was_lost_is_named_in_the_log(postgres_database: DatabaseForTest) -> None:
    with running_broker("embedded") as broker:
        config = config_for(broker, partitions=1)
        async with member(config, postgres_database.dsn) as made:
            await made.until_joined()
        broker.stop()
        with structlog.testing.capture_logs() as lines:
            lost = Member(config, postgres_database.dsn)
            async with asyncio.timeout(60):
                while not any(line["event"] == "source_waits_for_broker" for line in lines):
                    await asyncio.sleep(0.02)
            await lost.crash()
        line = next(line for line in lines if line["event"] == "source_waits_for_broker")
        assert broker.bootstrap in line["error"]


SECRET = KafkaConfig.model_construct(bootstrap_servers=["user:hunter22@broker-1:9092", "broker-2:9092"])


@pytest.mark.parametrize(
    "error",
    [
        library.KafkaConnectionError("x"),
        library.UnknownTopicOrPartitionError(),
        library.TopicAuthorizationFailedError("t"),
        library.UnknownError(),
        library.UnsupportedVersionError(),
        library.IncompatibleBrokerVersion("x"),
        OSError("x"),
        TimeoutError(),
        AssertionError("x"),
    ],
)
async def test_no_message_shows_a_password(error: Exception) -> None:
    with pytest.raises((ConnectionLost, Exception)) as caught:
        async with translated(SECRET, "the topic t"):
            raise error
    assert "hunter22" not in str(caught.value)
    assert "broker-1:9092, broker-2:9092" in str(caught.value)


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (library.UnsupportedVersionError(), NotIdempotent, "set kafka.idempotent = false"),
        (library.UnknownError(), NotIdempotent, "set kafka.idempotent = false"),
        (library.IncompatibleBrokerVersion("no such request"), NotIdempotent, "set kafka.idempotent = false"),
        (
            library.ClusterAuthorizationFailedError(),
            NotIdempotent,
            "grant IDEMPOTENT_WRITE on the cluster, or set kafka",
        ),
        (library.SaslAuthenticationFailed("no"), AccessRefused, "check kafka.username"),
        (library.NotLeaderForPartitionError(), Exception, "NotLeaderForPartition"),
    ],
)
def test_what_is_said_where_a_producer_gets_no_number(
    error: library.KafkaError, kind: type[Exception], says: str
) -> None:
    told = not_idempotent(our_error(error, SECRET), SECRET)
    assert isinstance(told, kind)
    assert says in str(told)
    if kind is NotIdempotent:
        assert is_known(told)
        assert reaction_to(told) is Reaction.PAUSE
