"""The table of sinks, one row each. A new sink is a folder beside this file and a line in SINKS.

This file and each sink's `options.py` belong to the room `config`, which has one section for each row. A row names
the folder of its sink, whose `setup` is imported only when the sink is used: a daemon without Redis needs no Redis
library.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

from ingestd.config.section import Section
from ingestd.config.servers import DatabaseConfig, KafkaConfig
from ingestd.sinks.influx.options import InfluxConfig
from ingestd.sinks.redis.options import RedisConfig


@dataclass(frozen=True, slots=True)
class SinkKind:
    """One kind of sink.

    `section`: its section in the configuration file; without the section the daemon has no such sink. `options`: the
    section's model, with a mark on each option that may hold a secret. `package`: the package of its `setup` module
    (`sinks.base.Setup`). `roles`: the daemon roles in which it runs. `is_live`: it gets records as they arrive; every
    other sink is durable and reads the journal. `rejections`: the prefix of the reasons for which a durable sink puts
    records aside. `has_reports`: its server also gets what is in no journal, in every role (`reports` of its `setup`).
    """

    section: str
    options: type[Section]
    package: str
    roles: tuple[str, ...] = ("all",)
    is_live: bool = False
    rejections: str = ""
    has_reports: bool = False

    def setup(self) -> ModuleType:
        """The `setup` module of this sink."""
        return importlib.import_module(f"{self.package}.setup")


# In order of precedence: the counts of the first durable sink stand for what the daemon has stored.
SINKS: dict[str, SinkKind] = {
    "timescale": SinkKind("database", DatabaseConfig, "ingestd.sinks.timescale", rejections="server_"),
    "redis": SinkKind("redis", RedisConfig, "ingestd.sinks.redis", ("all", "feed", "sink"), is_live=True),
    "kafka": SinkKind("kafka", KafkaConfig, "ingestd.sinks.kafka", ("all", "feed"), rejections="kafka_"),
    "influx": SinkKind(
        "influx", InfluxConfig, "ingestd.sinks.influx", ("all", "feed"), rejections="influx_", has_reports=True
    ),
}


def configured(config: Section) -> dict[str, SinkKind]:
    """The sinks that have a section in the configuration, whether or not the daemon's role runs them."""
    return {name: kind for name, kind in SINKS.items() if getattr(config, kind.section) is not None}
