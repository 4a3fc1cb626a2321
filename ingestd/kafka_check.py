"""Try Kafka once, for `ingestd check --connect`: is a broker there, can it do what the configuration asks of it?"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ingestd.config import KafkaConfig
from ingestd.errors import ConnectionLost, KafkaError
from ingestd.kafka_client import Producer


@dataclass(frozen=True, slots=True)
class KafkaAnswer:
    """What the brokers answered.

    `brokers` are the cluster's, as they name themselves (`host:port`): clients are sent there. `idempotence` is None
    where an idempotent producer gets its number, else a sentence that says why not and what to do. `missing_topics` do
    not exist; with `kafka.create_topics` a start makes them.
    """

    brokers: tuple[str, ...]
    idempotence: str | None
    missing_topics: tuple[str, ...]


async def try_kafka(config: KafkaConfig, client_id: str, topics: Collection[str]) -> KafkaAnswer:
    """Ask the brokers, and change nothing. `topics` are those that the program will use. Takes at most
    `kafka.request_timeout_s` for each bootstrap server, and twice that besides.

    Raises ConnectionLost when none can be reached, KafkaError (AccessRefused) when it refuses us. The sentence names
    the brokers and never a password.
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
