"""Builds the sink into Kafka, and checks its section."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from ingestd.config.models import Config, KafkaConfig
from ingestd.errors import ConfigError, ConnectionLost, KafkaError, Problem
from ingestd.events.messages import EVENT_TYPES
from ingestd.kafka import envelope
from ingestd.kafka.producer import Producer
from ingestd.sinks.base import Answer, DurableParts
from ingestd.sinks.kafka.sink import KafkaSink
from ingestd.venues.market_names import Names


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


def build(parts: DurableParts) -> KafkaSink:
    """Build the sink. Without a database, records that Kafka cannot take are reported in the topic of rejections."""
    options = parts.config.section(KafkaConfig)
    return KafkaSink(
        cursor=parts.cursor,
        journal_ids=parts.journal_ids,
        connect=lambda topics: Producer.connect(options, parts.instance, topics),
        config=options,
        state_dir=parts.config.instance.state_dir,
        metrics=parts.metrics,
        names=Names(options.symbol_style, parts.known),
        keep_rejected=parts.access is None,
    )


def problems(config: Config) -> Iterator[Problem]:
    """Report unreadable files of secrets and certificates."""
    options = config.section(KafkaConfig)
    if options.password_file is not None:
        try:
            options.password()
        except ConfigError as error:
            yield from error.problems
    for key in ("ca_file", "certificate_file", "key_file"):
        file: Path | None = getattr(options, key)
        if file is not None and not os.access(file, os.R_OK):
            why = "this user may not" if file.exists() else "no such file"
            yield Problem(f"kafka.{key}", f"{file} cannot be read: {why}")


async def ask(config: Config) -> Answer:
    """Ask whether a broker answers, supports idempotent producers, and has the topics that this role uses."""
    options = config.section(KafkaConfig)
    topics = set(envelope.topics(options.topic_prefix))
    if config.instance.role == "sink":
        topics |= {f"{options.topic_prefix}.{event.topic}" for event in EVENT_TYPES.values()}
    answer = await try_kafka(options, f"ingestd {config.instance.name}", topics)
    said, lacking = [f"{', '.join(answer.brokers)}: answered"], []
    if answer.idempotence is None:
        said.append("idempotence is supported")
    elif options.idempotent:
        lacking.append(answer.idempotence)
    if answer.missing_topics:
        missing = (
            f"{len(answer.missing_topics)} of {len(topics)} topics do not exist: {', '.join(answer.missing_topics)}"
        )
        if options.create_topics:
            said.append(f"{missing}; the start makes them")
        else:
            lacking.append(f"{missing}; make them, or set kafka.create_topics = true")
    return Answer("; ".join(said), tuple(lacking))


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
