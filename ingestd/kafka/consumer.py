"""The seam to the Kafka client library for reading: a member of a consumer group, as `messages.Consumer` promises, and
a reader of all messages that topics hold now."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Collection, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka import errors as library
from aiokafka.consumer import fetcher

from ingestd.config.models import KafkaConfig
from ingestd.errors import ConnectionLost, KafkaError
from ingestd.kafka.batch_format import LARGEST_BATCH_BYTES, FetchedBatches
from ingestd.kafka.batches import LARGEST_MESSAGE_BYTES, Bounds, FetchResult, PartitionRecords
from ingestd.kafka.connecting import connection, ensure_topics, reached
from ingestd.kafka.errors import place, translated
from ingestd.kafka.messages import Membership, Message, Part

log = structlog.get_logger()

_STOP_TIMEOUT_S = 2.0
_CALL_TIMEOUT_S = 15.0
_ASK_TIMEOUT_S = 5.0
_POLL_MARGIN_S = 1.0
_JOIN_MARGIN_S = 5.0
# Heartbeats show that a member is alive. A flush may take as long as the database is down: if the member left the group
# then, other members would only hold the same messages.
_NEVER_MS = 7 * 24 * 3600 * 1000

# Replaced in the whole process (why: see `batches`). Each consumer passes its limits to them as its deserializer.
fetcher.MemoryRecords, fetcher.PartitionRecords = FetchedBatches, PartitionRecords
fetcher.FetchResult = FetchResult


class GroupConsumer:
    """Reads topics as one member of a group."""

    def __init__(
        self, topics: Sequence[str], membership: Membership, *, config: KafkaConfig, client_id: str, group_id: str
    ) -> None:
        session_ms = int(config.session_timeout_s * 1000)
        # The broker answers a join when every member has joined, at the latest after the session timeout.
        request_ms = int(max(config.request_timeout_s, config.session_timeout_s + _JOIN_MARGIN_S) * 1000)
        self._topics = list(topics)
        self._config = config
        self._client_id = client_id
        self._bounds = bounds_of(config)
        self._consumer = AIOKafkaConsumer(
            value_deserializer=self._bounds,
            **{**connection(config, client_id), "request_timeout_ms": request_ms},
            group_id=group_id,
            enable_auto_commit=False,
            # An offset that the topic no longer has must be an error, not a silent jump.
            auto_offset_reset="none",
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=session_ms,
            heartbeat_interval_ms=max(100, session_ms // 5),
            max_poll_interval_ms=_NEVER_MS,
            fetch_max_wait_ms=100,
            metadata_max_age_ms=30_000,
        )
        self._listener = _Listener(self._consumer, membership)
        self._committing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._config.create_topics:
            await ensure_topics(self._config, self._client_id, self._topics)
        async with translated(self._config, "joining the group"):
            await reached(self._consumer.start, self._config, self._client_id)
            # Subscribe after the start: earlier, the library would wait for topics that do not exist.
            self._consumer.subscribe(self._topics, listener=self._listener)

    async def stop(self) -> None:
        await _ended(self._consumer.stop(), _STOP_TIMEOUT_S)
        # If the brokers do not answer, the library gives up without closing its connections.
        await _ended(self._consumer._client.close(), _STOP_TIMEOUT_S / 2)
        if self._committing is not None:
            self._committing.cancel()
            await asyncio.wait({self._committing}, timeout=_STOP_TIMEOUT_S / 2)

    async def poll(self, timeout_s: float, max_records: int) -> Sequence[Message]:
        found: Mapping[Any, Sequence[Message]] = {}
        self._bounds.begin_poll()
        try:
            # During a rebalance the library waits for its end. Storing held messages must not wait with it.
            async with translated(self._config):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout_s + _POLL_MARGIN_S):
                        found = await self._consumer.getmany(timeout_ms=int(timeout_s * 1000), max_records=max_records)
        except KafkaError as error:
            # A partition without a committed offset, for which the library has no position yet.
            if isinstance(error.__cause__, library.NoOffsetForPartitionError):
                return []
            raise
        return [message for messages in found.values() for message in messages]

    async def bounds(self, parts: Sequence[Part]) -> Mapping[Part, tuple[int, int]]:
        keys = [TopicPartition(*part) for part in parts]
        async with translated(self._config, within_s=_CALL_TIMEOUT_S):
            first = await self._consumer.beginning_offsets(keys)
            end = await self._consumer.end_offsets(keys)
        return {(key.topic, key.partition): (first[key], end[key]) for key in keys}

    def begin(self, part: Part, offset: int) -> None:
        with contextlib.suppress(library.IllegalStateError):
            self._consumer.seek(TopicPartition(*part), offset)
            self._consumer.resume(TopicPartition(*part))

    def pause(self, part: Part) -> None:
        with contextlib.suppress(library.IllegalStateError):
            self._consumer.pause(TopicPartition(*part))

    async def ends(self, parts: Sequence[Part]) -> Mapping[Part, int]:
        keys = [TopicPartition(*part) for part in parts]
        if not keys:
            return {}
        async with translated(self._config, within_s=_ASK_TIMEOUT_S):
            found = await self._consumer.end_offsets(keys)
        return {(key.topic, key.partition): found[key] for key in keys}

    async def missing_topics(self) -> Collection[str]:
        async with translated(self._config, within_s=_ASK_TIMEOUT_S):
            try:
                known = await self._consumer.topics()
            except library.KafkaError as error:
                raise ConnectionLost(f"{place(self._config)}: no broker answers ({error})") from error
        missing: set[str] = set(self._topics) - known
        if missing and self._config.create_topics:
            await ensure_topics(self._config, self._client_id, self._topics)
            self._consumer._client.force_metadata_update()  # otherwise the group notices new topics half a minute later
            return set()
        return missing

    async def commit(self, offsets: Mapping[Part, int]) -> None:
        if self._committing is not None and not self._committing.done():
            return
        # No time limit of our own: cancelled, the library would leave the request without an owner.
        self._committing = asyncio.create_task(self._commit(offsets), name="kafka-commit")
        await asyncio.wait({self._committing}, timeout=_STOP_TIMEOUT_S)

    async def _commit(self, offsets: Mapping[Part, int]) -> None:
        try:
            await self._consumer.commit({TopicPartition(*part): offset for part, offset in offsets.items()})
        except (library.KafkaError, TimeoutError, OSError) as error:
            log.debug("offset_hint_not_committed", error=str(error) or type(error).__name__)


async def read_to_end(config: KafkaConfig, client_id: str, topics: Sequence[str]) -> AsyncIterator[Message]:
    """Read all messages that the topics hold now, in order within each partition, without a group."""
    bounds = bounds_of(config)
    consumer = AIOKafkaConsumer(
        *topics,
        **connection(config, client_id),
        value_deserializer=bounds,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    try:
        async with translated(config):
            await consumer.start()
            keys = consumer.assignment()
            ends = await consumer.end_offsets(keys)
        left = {key for key in keys if await consumer.position(key) < ends[key]}
        while left:
            bounds.begin_poll()
            async with translated(config):
                batches = await consumer.getmany(*left, timeout_ms=1000)
            for messages in batches.values():
                for message in messages:
                    yield message
            left = {key for key in left if await consumer.position(key) < ends[key]}
    finally:
        await _ended(consumer.stop(), _STOP_TIMEOUT_S)


async def _ended(ending: Awaitable[None], within_s: float) -> None:
    """Wait until the client has stopped, for at most `within_s`, whatever the brokers answer."""
    with contextlib.suppress(library.KafkaError, TimeoutError, OSError):
        async with asyncio.timeout(within_s):
            await ending


def bounds_of(config: KafkaConfig) -> Bounds:
    """The unpacking limits: at least twice the size that the configuration lets a producer send."""
    largest = 2 * max(config.max_message_bytes, config.max_batch_bytes)
    return Bounds(max(LARGEST_BATCH_BYTES, largest), max(LARGEST_MESSAGE_BYTES, largest))


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # the library ships no types
    def __init__(self, consumer: AIOKafkaConsumer, membership: Membership) -> None:
        self._consumer = consumer
        self._membership = membership

    async def on_partitions_revoked(self, revoked: Sequence[Any]) -> None:
        await self._membership.revoked([(key.topic, key.partition) for key in revoked])

    async def on_partitions_assigned(self, assigned: Sequence[Any]) -> None:
        self._consumer.pause(*assigned)
        self._membership.assigned([(key.topic, key.partition) for key in assigned])
