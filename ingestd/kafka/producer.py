"""The seam to the Kafka client library for producing. Every call has a time limit; errors become our own classes.

`Producer` sends whole batches to a partition that the caller chooses. `partition_for` chooses the same partition as the
default partitioner of Java's client and others.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self, TypeAlias

from aiokafka import AIOKafkaProducer
from aiokafka import errors as library
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

from ingestd.clock import monotonic_s
from ingestd.config.models import KafkaConfig
from ingestd.errors import ConnectionLost, KafkaError, MessageTooLarge
from ingestd.failpoints import passing
from ingestd.kafka.connecting import FRAME_BYTES, connection, ensure_topics, reach_timeout_s, reached
from ingestd.kafka.errors import not_idempotent, translated

# timestamp in milliseconds since the epoch, key, value, headers
Message: TypeAlias = tuple[int, bytes, bytes, list[tuple[str, bytes]]]

_STOP_TIMEOUT_S = 3.0
_METADATA_AGAIN_S = 0.1

_LIMIT_KEPT_S = 300.0


def partition_for(key: bytes, partitions: int) -> int:
    """The partition of a key, as chosen by Java's default partitioner."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def size_of(message: Message) -> int:
    """An upper bound of a message's size in a batch of its own, in bytes, uncompressed."""
    _, key, value, headers = message
    return FRAME_BYTES + len(key) + len(value) + sum(len(name) + len(content) + 10 for name, content in headers)


class SizeLimits:
    """Remembers the batch sizes that topics have refused, because every refusal costs a producer. After five minutes
    the topic is tried again, as its limit may have been raised."""

    def __init__(self) -> None:
        self._refused: dict[str, tuple[int, float]] = {}

    def refused(self, topic: str) -> int | None:
        """The smallest size refused lately, in bytes; None if none was."""
        size, at_s = self._refused.get(topic, (0, 0.0))
        return size if size and monotonic_s() - at_s < _LIMIT_KEPT_S else None

    def learn(self, topic: str, size: int) -> None:
        """Note that a batch of this size was refused."""
        known = self.refused(topic)
        if known is None or size < known:
            self._refused[topic] = size, monotonic_s()


class Producer:
    """A producer. After an error of `send`, unless `foreseen`, it must be terminated and replaced with `connect`."""

    def __init__(self, config: KafkaConfig, client_id: str) -> None:
        self.is_closed = False
        self.limits = SizeLimits()  # the sink passes them on to the next producer
        self._config = config
        self._client_id = client_id
        self._closing: asyncio.Task[None] | None = None
        self._producer = AIOKafkaProducer(
            **connection(config, client_id),
            acks="all",
            enable_idempotence=config.idempotent,
            compression_type=None if config.compression == "none" else config.compression,
            max_batch_size=config.max_batch_bytes,
            metadata_max_age_ms=60_000,
        )

    @classmethod
    async def connect(cls, config: KafkaConfig, client_id: str, topics: Sequence[str]) -> Self:
        """Connect a producer, and create missing topics if configured. Raises KafkaError or ConnectionLost."""
        connecting = asyncio.create_task(cls._connected(config, client_id, topics), name="kafka-producer-connect")
        _in_background(connecting)
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            # A cancelled start leaves the library's sockets open. So the start continues, and is closed afterwards.
            connecting.add_done_callback(_discard)
            raise

    @classmethod
    async def _connected(cls, config: KafkaConfig, client_id: str, topics: Sequence[str]) -> Self:
        if config.create_topics:
            await ensure_topics(config, client_id, topics)
        producer = cls(config, client_id)
        try:
            await producer.reach()
            await producer.begin()
        except BaseException:
            producer.terminate()
            raise
        return producer

    async def reach(self) -> None:
        """Find a broker; the first of two steps of `connect`."""
        async with translated(self._config, within_s=reach_timeout_s(self._config)):
            await reached(self._producer.client.bootstrap, self._config, self._client_id)

    async def begin(self) -> None:
        """Get a producer id, if idempotent; the second step of `connect`. Raises NotIdempotent if it is refused."""
        try:
            async with translated(self._config, within_s=self._config.request_timeout_s + 1):
                await self._producer._sender.start()
        except (KafkaError, ConnectionLost) as error:
            if self._config.idempotent:
                raise not_idempotent(error, self._config) from error
            raise

    async def known(self) -> tuple[list[str], set[str]]:
        """The cluster's brokers (`host:port`, as advertised) and its topics."""
        async with translated(self._config, within_s=self._config.request_timeout_s):
            cluster = await self._producer.client.fetch_all_metadata()
        return sorted(f"{broker.host}:{broker.port}" for broker in cluster.brokers()), set(cluster.topics())

    async def partitions(self, topic: str) -> int:
        """The number of a topic's partitions. Waits for a topic just created. Raises KafkaError if there is none."""
        client, answered = self._producer.client, False
        async with translated(self._config, f"the topic {topic}"):
            try:
                async with asyncio.timeout(self._config.request_timeout_s):
                    while (known := client.cluster.partitions_for_topic(topic)) is None:
                        if answered and not self._config.create_topics:
                            raise library.UnknownTopicOrPartitionError
                        if answered:
                            await asyncio.sleep(_METADATA_AGAIN_S)
                        client.add_topic(topic)
                        answered = bool(await client.force_metadata_update())
                        if topic in client.cluster.unauthorized_topics:
                            raise library.TopicAuthorizationFailedError(topic)
            except TimeoutError as error:
                if answered:
                    raise library.UnknownTopicOrPartitionError from error
                raise
        return len(known)

    async def send(self, topic: str, partition: int, messages: Sequence[Message]) -> int:
        """Send what fits into one batch, at least one message. Return how many, once all in-sync replicas have them.

        Raises MessageTooLarge if the broker refuses the batch, or has refused one of this size before: then none of it
        is stored. Raises ConnectionLost if no answer came within `delivery_timeout_s`: then it may be stored. Raises
        KafkaError for other answers.
        """
        refused = self.limits.refused(topic)
        count = 0
        try:
            async with translated(self._config, f"the topic {topic}"):
                batch = self._producer.create_batch()
                count = fill(batch, messages if refused is None else below(messages, refused, batch.size))
                batch.close()
                if refused is not None and batch.size() >= refused:
                    text = f"the topic {topic} takes no batch of {batch.size()} bytes"
                    raise MessageTooLarge(text, name="MessageSizeTooLargeError", retriable=False, foreseen=True)
                passing("kafka.send")
                async with asyncio.timeout(self._config.delivery_timeout_s):
                    await (await self._producer.send_batch(batch, topic, partition=partition))
                passing("kafka.acknowledged")
        except MessageTooLarge as error:
            error.messages = count
            if not error.foreseen:
                self.limits.learn(topic, batch.size())
            raise
        return count

    async def close(self) -> None:
        """Terminate the producer, and wait at most a few seconds until its connections are closed. Never raises."""
        self.terminate()
        await settled(2 * _STOP_TIMEOUT_S)

    def terminate(self) -> None:
        """Cut the connections now. Messages in flight may or may not arrive."""
        if self._closing is None:
            self.is_closed = True
            self._closing = asyncio.create_task(self._cut(), name="kafka-producer-close")
            _in_background(self._closing)

    async def _cut(self) -> None:
        # The library's stop() first waits for every pending batch, which an idempotent producer retries for ever. So
        # its parts are stopped here: the connections, which fails pending requests; the sender; and the connections
        # again, which may have been reopened meanwhile.
        self._producer._closed = True
        sending = self._producer._sender.sender_task
        if sending is not None:
            sending.cancel()
        await self._hang_up()
        if sending is not None:
            await asyncio.wait({sending}, timeout=_STOP_TIMEOUT_S)
            if sending.done() and not sending.cancelled():
                sending.exception()
            await self._hang_up()

    async def _hang_up(self) -> None:
        with contextlib.suppress(Exception):  # the producer is being discarded
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await self._producer.client.close()


def fill(batch: BatchBuilder, messages: Iterable[Message]) -> int:
    """Append messages until one does not fit. Return the number appended."""
    # Does what `batch.append` does, without a call, four keywords and serializers for every message.
    append, count = batch._builder.append, 0
    for timestamp_ms, key, value, headers in messages:
        if append(count, timestamp_ms, key, value, headers) is None:
            break
        count += 1
    batch._relative_offset = count
    return count


def below(messages: Iterable[Message], refused: int, size: Callable[[], int]) -> Iterator[Message]:
    """The first message, and following ones as long as the batch stays below the refused size."""
    for index, message in enumerate(messages):
        if index and size() + size_of(message) >= refused:
            return
        yield message


_background: set[asyncio.Task[Any]] = set()  # producers that connect or close in the background: a task needs an owner


def _in_background(task: asyncio.Task[Any]) -> None:
    _background.add(task)
    task.add_done_callback(_background.discard)


def _discard(connecting: asyncio.Task[Any]) -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().terminate()


async def settled(timeout_s: float) -> None:
    """Wait until every terminated producer has closed its connections, at most `timeout_s` seconds."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while ours := {task for task in _background if task.get_loop() is loop}:
                await asyncio.wait(ours)
