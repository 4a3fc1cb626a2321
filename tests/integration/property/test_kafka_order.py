"""Any records, crashes and failing producers: each partition, without its replays, is the journal in order.

A crash cuts the sink at any await and may take back what it knew of its place; a failing producer refuses a batch, or
loses the reply to one that arrived. The model is the list of what was journaled.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestd.config.models import JournalConfig, KafkaConfig
from ingestd.errors import ConnectionLost, ProducerFenced
from ingestd.kafka import envelope
from ingestd.kafka.producer import Message, Producer, partition_for
from ingestd.records import Record
from tests.support.brokers import Broker, config_for
from tests.support.kafka_rig import KafkaRig
from tests.support.records import market_records
from tests.support.time_limits import examples
from tests.support.topics import Place, Read, read_everything, topic_of, without_replays


@dataclass(frozen=True)
class Append:
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Crash:
    """After so long. `host`: the machine goes down, and takes back the cursor file's last state."""

    after_s: float
    host: bool


@dataclass(frozen=True)
class Fail:
    """The next sends fail; `arrived`: only the reply is lost."""

    count: int
    arrived: bool


steps = st.lists(
    st.lists(market_records(), min_size=1, max_size=30).map(lambda records: Append(tuple(records)))
    | st.builds(Crash, st.floats(0, 0.03), st.booleans())
    | st.builds(Fail, st.integers(1, 3), st.booleans()),
    min_size=1,
    max_size=9,
)
journal_options = st.sampled_from([{}, {"file_bytes": 800}, {"memory_bytes": 1, "file_bytes": 2000}])


class Unreliable(Producer):
    """Fails as it is told to."""

    failing = Fail(0, arrived=False)

    async def send(self, topic: str, partition: int, messages: Sequence[Message]) -> int:
        fail = Unreliable.failing
        if fail.count == 0:
            return await super().send(topic, partition, messages)
        Unreliable.failing = Fail(fail.count - 1, fail.arrived)
        if fail.arrived:
            await super().send(topic, partition, messages)
            raise ConnectionLost("the reply was lost")
        raise ProducerFenced("out of order", name="OutOfOrderSequenceNumber", retriable=True)


async def play(script: list[object], journal: JournalConfig, config: KafkaConfig) -> list[Record]:
    """Carry the steps out; everything journaled, in order."""
    journaled: list[Record] = []
    Unreliable.failing = Fail(0, arrived=False)

    async def connect(topics: list[str]) -> Producer:
        return await Unreliable.connect(config, "property", topics)

    with tempfile.TemporaryDirectory() as folder:
        state, old = Path(folder) / "state", Path(folder) / "old.cursor"
        state.mkdir()
        process = KafkaRig(state, config, connect, journal=journal)
        for step in script:
            if isinstance(step, Append):
                await process.journal.append(list(step.records))
                journaled += step.records
            elif isinstance(step, Fail):
                Unreliable.failing = step
            elif isinstance(step, Crash):
                await asyncio.sleep(step.after_s)
                if (state / "kafka.cursor").exists():
                    shutil.copy(state / "kafka.cursor", old)
                await process.crash()
                if step.host:
                    (state / "kafka.cursor").unlink(missing_ok=True)
                    if old.exists():
                        shutil.copy(old, state / "kafka.cursor")
                process = KafkaRig(state, config, connect, journal=journal)
        Unreliable.failing = Fail(0, arrived=False)
        await process.drain()
    return journaled


def expected(journaled: list[Record], found: dict[Place, list[Read]], config: KafkaConfig) -> dict[Place, list[Record]]:
    places: dict[Place, list[Record]] = {place: [] for place in found}
    for record in journaled:
        number = partition_for(envelope.key(record), config.partitions)
        places[topic_of(config.topic_prefix, record), number].append(record)
    return places


@settings(max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=steps, options=journal_options)
def test_each_partition_is_the_journal_in_order(kafka: Broker, script: list[object], options: dict[str, int]) -> None:
    config = config_for(kafka, max_flush_records=25, flush_ms=1, max_batch_bytes=3000)
    journaled = asyncio.run(play(script, JournalConfig.model_validate(options), config))
    found = read_everything(config.bootstrap_servers[0], config.topic_prefix)
    kept = {
        place: [message.record(config.topic_prefix) for message in without_replays(messages)]
        for place, messages in found.items()
    }
    assert kept == expected(journaled, found, config)
