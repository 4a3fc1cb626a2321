"""Tests Kafka once, for `ingestd check --connect`: does a broker answer, and does it support the configuration?"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ingestd.config.models import KafkaConfig
from ingestd.errors import ConnectionLost, KafkaError
from ingestd.kafka.producer import Producer


@dataclass(frozen=True, slots=True)
class KafkaAnswer:
    """The brokers' answer.

    `brokers`: the cluster's brokers as they advertise themselves (`host:port`). `idempotence`: None if an idempotent
    producer gets a producer id, else a sentence that says why not and what to do. `missing_topics` do not exist; with
    `kafka.create_topics` the daemon creates them at its start.
    """

    brokers: tuple[str, ...]
    idempotence: str | None
    missing_topics: tuple[str, ...]


async def try_kafka(config: KafkaConfig, client_id: str, topics: Collection[str]) -> KafkaAnswer:
    """Ask the brokers, and change nothing. `topics` are the topics that the program will use.

    Takes at most `kafka.request_timeout_s` for each bootstrap server, and twice that in addition. Raises ConnectionLost
    when no broker can be reached, KafkaError (AccessRefused) when one refuses the client; the message names the brokers
    and never a password.
    """
    producer = Producer(config.model_copy(update={"idempotent": True}), client_id)
    try:
        await producer.reach()
        brokers, there = await producer.known()
        idempotence = None
        try:
            await producer.begin()
        except (KafkaError, ConnectionLost) as error:
            idempotence = str(error)
    finally:
        await producer.close()
    return KafkaAnswer(tuple(brokers), idempotence, tuple(sorted(set(topics) - there)))
