"""Every kind of sink, one row each: to add one is a folder beside this file and a line in SINKS.

This file and each sink's `options.py` belong to the room `config`, which reads one section for each row. A row names
the folder of its sink, whose `setup` is imported by whoever builds, checks or asks the sink: a daemon without Redis
needs no Redis library.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

from ingestd.config.section import Section
from ingestd.config.servers import DatabaseConfig, KafkaConfig
from ingestd.sinks.redis.options import RedisConfig


@dataclass(frozen=True, slots=True)
class SinkKind:
    """One kind of sink.

    `section`: its section in the configuration file; without it the sink does not exist. `options`: what the section
    may say, with a mark on each option that may hold a secret. `package`: where its `setup` is (`sinks.base.Setup`).
    `roles`: of the daemon, in which it runs. `is_live`: it gets records as they arrive; every other sink is durable and
    reads the journal. `rejections`: how the reasons begin for which a durable sink puts records aside.
    """

    section: str
    options: type[Section]
    package: str
    roles: tuple[str, ...] = ("all",)
    is_live: bool = False
    rejections: str = ""

    def setup(self) -> ModuleType:
        """The module that builds, checks and asks this sink."""
        return importlib.import_module(f"{self.package}.setup")


# In the order of their precedence: the first durable sink's account of what was stored stands for the daemon's.
SINKS: dict[str, SinkKind] = {
    "timescale": SinkKind("database", DatabaseConfig, "ingestd.sinks.timescale", rejections="server_"),
    "redis": SinkKind("redis", RedisConfig, "ingestd.sinks.redis", ("all", "feed", "sink"), is_live=True),
    "kafka": SinkKind("kafka", KafkaConfig, "ingestd.sinks.kafka", ("all", "feed"), rejections="kafka_"),
}


def configured(config: Section) -> dict[str, SinkKind]:
    """The sinks whose section the configuration has, whether the daemon's role runs them or not."""
    return {name: kind for name, kind in SINKS.items() if getattr(config, kind.section) is not None}
