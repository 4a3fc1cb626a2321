"""Who may import whom, read from the source. The rules are those of the design's layout."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ingestd"

LEAVES = {
    "ingestd",
    "ingestd.records",
    "ingestd.errors",
    "ingestd.clock",
    "ingestd.config.models",
    "ingestd.config.dsn",
    "ingestd.config.overlap",
    "ingestd.config.runnable",
    "ingestd.config.secrets",
    "ingestd.config.values",
    "ingestd.kafka.envelope",
    "ingestd.iso_time",
    "ingestd.symbol_names",
    "ingestd.gaps.causes",
    "ingestd.indexed_texts",
    "ingestd.storage.writer.trade_times",
    "ingestd.files",  # every part that keeps something between runs
    "ingestd.failpoints",  # where a test breaks the process: each part passes its own places
}
FOR_ALL = {*LEAVES, "ingestd.ops.metrics", "ingestd.retry"}

# What the modules under a name may import of ours, besides FOR_ALL and their own package. The longest name counts.
# An entry stands for the module and everything in it.
MAY_IMPORT: dict[str, set[str]] = {
    "ingestd.feeds": {"ingestd.feeds.base"},
    "ingestd.validation": set(),
    "ingestd.intake.intake": {
        "ingestd.feeds.base",
        "ingestd.gaps.open_gaps",
        "ingestd.journal.journal",
        "ingestd.ops.rejections",
        "ingestd.intake.spill",
        "ingestd.validation",
    },
    "ingestd.gaps.open_gaps": set(),
    "ingestd.ops.rejections": set(),
    "ingestd.intake.spill": set(),
    # What a process leaves to the next: it is composed of what the feeds say and the intake holds.
    "ingestd.intake.stream_state": {
        "ingestd.feeds.base",
        "ingestd.gaps.open_gaps",
        "ingestd.intake.intake",
        "ingestd.journal.thread",
    },
    "ingestd.journal.journal": {
        "ingestd.gaps.open_gaps",
        "ingestd.journal.cursor",
        "ingestd.journal.disk",
        "ingestd.journal.file",
        "ingestd.journal.rows",
        "ingestd.journal.salvage",
        "ingestd.journal.recovery",
        "ingestd.journal.thread",
    },
    "ingestd.journal.cursor": {"ingestd.journal.file"},
    "ingestd.journal.damage": set(),
    "ingestd.journal.disk": set(),
    "ingestd.journal.file": {"ingestd.journal.disk", "ingestd.journal.rows"},
    "ingestd.journal.rows": set(),
    "ingestd.journal.salvage": {
        "ingestd.gaps.open_gaps",
        "ingestd.journal.disk",
        "ingestd.journal.file",
        "ingestd.journal.rows",
    },
    "ingestd.journal.recovery": {
        "ingestd.journal.damage",
        "ingestd.journal.disk",
        "ingestd.journal.file",
        "ingestd.journal.salvage",
    },
    "ingestd.journal.thread": set(),
    "ingestd.standby.takeover": {
        "ingestd.feeds.base",
        "ingestd.gaps.tracker",
        "ingestd.storage",
    },  # gaps, from what is stored
    "ingestd.lifecycle": set(),
    "ingestd.shard": set(),
    "ingestd.sinks": {"ingestd.storage", "ingestd.journal.journal", "ingestd.validation", "ingestd.kafka.producer"},
    "ingestd.kafka.producer": {"ingestd.kafka.errors"},
    "ingestd.kafka.errors": set(),
    "ingestd.kafka.check": {"ingestd.kafka.producer"},
    "ingestd.sources": {
        "ingestd.ops.rejections",
        "ingestd.storage",
        "ingestd.sinks",
        "ingestd.validation",
        "ingestd.events.messages",
        "ingestd.kafka.consumer",
        "ingestd.ops.health",
    },
    # Publisher and consumer of trading events share one reading of them.
    "ingestd.events.publisher": {"ingestd.kafka.producer", "ingestd.events.messages"},
    "ingestd.events.messages": set(),
    "ingestd.kafka.consumer": {
        "ingestd.sources.base",
        "ingestd.kafka.batches",
        "ingestd.kafka.producer",
        "ingestd.kafka.errors",
    },
    "ingestd.kafka.batches": {"ingestd.sources.base", "ingestd.kafka.codecs"},
    "ingestd.kafka.codecs": set(),
    "ingestd.storage": {"ingestd.feeds.base"},
    "ingestd.ops": {"ingestd.feeds.base"},
    # It compares a venue's past with what is stored, so it sees both; rows go to the intake it is given.
    "ingestd.backfill": {"ingestd.feeds", "ingestd.storage", "ingestd.validation"},
    # On demand nothing is journaled, since the venue can be asked again: rows are stored at once.
    "ingestd.backfill.on_demand": {
        "ingestd.backfill",
        "ingestd.feeds",
        "ingestd.sinks.timescale",
        "ingestd.storage",
        "ingestd.validation",
    },
    "ingestd.lab.sim": set(),
    "ingestd.service": {"ingestd"},
    "ingestd.sink_service": {"ingestd"},
    "ingestd.cli": {
        "ingestd.service",
        "ingestd.shard",
        "ingestd.sink_service",
        "ingestd.storage",
        "ingestd.lab.sim",
        "ingestd.ops",
        "ingestd.feeds.catalog.catalog",
        "ingestd.feeds.catalog.directory",
        "ingestd.backfill.on_demand",
        "ingestd.kafka.check",
    },
    # It measures every part alone and all together, so it sees them all.
    "ingestd.lab.bench": {"ingestd"},
    # It asks each server and venue once, by the part that will use it.
    "ingestd.cli.connecting": {"ingestd"},
    "ingestd.cli.loading": {"ingestd.feeds.catalog.catalog", "ingestd.sinks.redis.sink", "ingestd.storage"},
    # It listens to what the daemon sends.
    "ingestd.lab.demo.fanout": {"ingestd.lab.sim", "ingestd.kafka.consumer"},
    "ingestd.__main__": {"ingestd.cli"},
}
NOTHING_OF_OURS = {
    "ingestd.records",
    "ingestd.errors",
    "ingestd.clock",
    "ingestd.iso_time",
    "ingestd.files",
    "ingestd.symbol_names",
    "ingestd.gaps.causes",
    "ingestd.storage.writer.trade_times",
    "ingestd",
}
EXACTLY = {
    "ingestd.config.models": {
        "ingestd",
        "ingestd.config.dsn",
        "ingestd.config.overlap",
        "ingestd.config.secrets",
        "ingestd.config.values",
        "ingestd.errors",
    },
    "ingestd.config.dsn": {"ingestd.config.secrets", "ingestd.errors"},
    "ingestd.config.overlap": {"ingestd.errors"},
    "ingestd.config.runnable": {"ingestd.config.models", "ingestd.errors"},
    "ingestd.config.secrets": set(),
    "ingestd.config.values": {"ingestd.config.secrets", "ingestd.errors"},
    "ingestd.failpoints": {"ingestd.errors"},
    "ingestd.kafka.producer": {
        "ingestd.clock",
        "ingestd.config.models",
        "ingestd.errors",
        "ingestd.failpoints",
        "ingestd.kafka.errors",
    },
    "ingestd.kafka.envelope": {"ingestd.errors", "ingestd.iso_time", "ingestd.records"},
    "ingestd.events.messages": {"ingestd.errors", "ingestd.indexed_texts"},
    "ingestd.ops.metrics": {"ingestd", "ingestd.feeds.base", "ingestd.records"},
}

# Each outside service is reached through one file: an upgrade of its library touches that file, and its errors are
# translated there.
SEAMS = {
    "ccxt": {"ingestd/feeds/ccxt/tap.py"},
    "asyncpg": {"ingestd/storage/database.py", "ingestd/storage/dialling.py"},  # in use, and being connected
    "prometheus_client": {"ingestd/ops/metrics.py"},
    "picows": {"ingestd/feeds/native/socket.py"},
    "redis": {"ingestd/sinks/redis/sink.py"},
    "matplotlib": {"ingestd/lab/bench/plot.py"},
    "cryptofeed": {"ingestd/lab/bench/peer_cryptofeed.py"},  # run by another interpreter, imported by nothing
    "aiokafka": {  # producing, a group's member, what a fetch brings, and the words for its errors
        "ingestd/kafka/batches.py",
        "ingestd/kafka/producer.py",
        "ingestd/kafka/consumer.py",
        "ingestd/kafka/errors.py",
    },
}

LONGEST_FILE = 400
# A file may be longer for a reason, said here.
LONGER_FOR_A_REASON = {
    "ingestd/config/models.py": "every option and how the file is read, checked and shown: one page to look an option up in",
    "ingestd/feeds/ccxt/tap.py": "the only file that may import ccxt: what derives from its classes is here",
    "ingestd/service.py": "the composition root: every part, and the one start and stop order, on one page",
    "ingestd/intake/intake.py": "holding, giving up, sealing and counting are of one list of open records",
    "ingestd/journal/journal.py": "appending, cursors and dropping share one account of what is where; apart, each would lie",
}


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@functools.cache
def tree_of(file: Path) -> ast.Module:
    """Parsed once: the whole package is walked many times."""
    return ast.parse(file.read_text(encoding="utf-8"))


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file) for file in files()}


@functools.cache
def imports(file: Path) -> frozenset[str]:
    """Every module the file imports, anywhere in it."""
    return frozenset(_imports(file))


def _imports(file: Path) -> Iterator[str]:
    package = module_of(file) if file.name == "__init__.py" else module_of(file).rpartition(".")[0]
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    [*package.split(".")[: len(package.split(".")) - node.level + 1], *filter(None, [base])]
                )
            for alias in node.names:  # `from ingestd import config` imports a module, `from ingestd import x` does not
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base


def is_within(module: str, name: str) -> bool:
    return module == name or module.startswith(f"{name}.")


def rule_for(module: str) -> str | None:
    return max((name for name in MAY_IMPORT if is_within(module, name)), key=len, default=None)


def allowed(module: str, imported: str) -> bool:
    if module in NOTHING_OF_OURS:
        return False
    if module in EXACTLY:
        return imported in EXACTLY[module]
    if imported in FOR_ALL:
        return True
    rule = rule_for(module)
    if rule is None:
        return False
    return is_within(imported, rule) or any(is_within(imported, name) for name in MAY_IMPORT[rule])


@pytest.mark.parametrize("file", files(), ids=module_of)
def test_a_module_imports_only_what_its_place_allows(file: Path) -> None:
    module = module_of(file)
    assert module in LEAVES | FOR_ALL or rule_for(module), f"{module} has no rule: give it its place in MAY_IMPORT"
    wrong = {name for name in imports(file) if is_within(name, "ingestd") and not allowed(module, name)}
    assert not wrong, f"{module} must not import {', '.join(sorted(wrong))}"


@pytest.mark.parametrize(
    ("module", "imported", "may"),
    [
        ("ingestd.feeds.ccxt.feed", "ingestd.sinks.base", False),
        ("ingestd.feeds.native.venues.binance", "ingestd.feeds.websocket", True),
        ("ingestd.feeds.ccxt.feed", "ingestd.storage.database", False),
        ("ingestd.feeds.ccxt.feed", "ingestd.ops.metrics", True),
        ("ingestd.feeds.ccxt.feed", "ingestd.ops.health", False),
        ("ingestd.storage.writer.writer", "ingestd.feeds.base", False),
        ("ingestd.storage.writer.writer", "ingestd.storage.database", True),
        ("ingestd.storage.database", "ingestd.sinks.base", False),
        ("ingestd.records", "ingestd.clock", False),
        ("ingestd.config.models", "ingestd.errors", True),
        ("ingestd.config.models", "ingestd.records", False),
        ("ingestd.ops.health", "ingestd.feeds.base", True),
        ("ingestd.ops.health", "ingestd.feeds.ccxt.feed", False),
        ("ingestd.cli.run", "ingestd.service", True),
        ("ingestd.cli.run", "ingestd.sinks.redis.sink", False),
        ("ingestd.service", "ingestd.sinks.redis.sink", True),
        ("ingestd.intake.intake", "ingestd.sinks.redis.sink", False),
        ("ingestd.lab.sim.embedded_valkey", "ingestd.sinks.redis.sink", False),
        ("ingestd.newcomer", "ingestd.sinks.base", False),
    ],
)
def test_the_rules_say_what_the_design_says(module: str, imported: str, may: bool) -> None:
    assert allowed(module, imported) is may


@pytest.mark.parametrize(("library", "seam"), SEAMS.items())
def test_each_outside_library_has_one_seam(library: str, seam: set[str] | None) -> None:
    users = {
        file.relative_to(ROOT).as_posix() for file in files() if any(is_within(name, library) for name in imports(file))
    }
    if seam is None:
        assert len(users) <= 1, f"{library} is imported by {', '.join(sorted(users))}; one file is enough"
    else:
        assert users <= seam


def test_there_is_no_drawer_for_what_has_no_name() -> None:
    names = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
    assert not [str(file) for file in files() if file.stem in names or file.parent.name in names]


def test_no_file_is_named_like_a_library_it_could_be_taken_for() -> None:
    assert not [str(file) for file in files() if file.stem in {"redis", "kafka", "logging", "http", "ccxt", "asyncpg"}]


@pytest.mark.parametrize("file", files(), ids=module_of)
def test_a_file_is_short_or_has_a_reason_not_to_be(file: Path) -> None:
    name = file.relative_to(ROOT).as_posix()
    length = len(file.read_text(encoding="utf-8").splitlines())
    if name in LONGER_FOR_A_REASON:
        assert length > LONGEST_FILE, f"{name} is short again: take it off the list"
    else:
        assert length <= LONGEST_FILE, f"{name} has {length} lines: split it, or say why not"


@pytest.mark.parametrize("file", files(), ids=module_of)
def test_no_module_imports_itself_in_a_circle(file: Path) -> None:
    """At import time; an import inside a function is a way out of a circle, not a part of it."""
    start = module_of(file)
    seen: set[str] = set()
    front = {start}
    while front:
        reached = {name for module in front for name in _top_level_imports(module)} - seen
        assert start not in reached, f"{start} imports itself, by way of others"
        seen |= reached
        front = reached


@functools.cache
def _top_level_imports(module: str) -> set[str]:
    path = PACKAGE.parent.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = tree_of(file)
    inside = {
        name
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom)
        for name in [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    }
    return {name for name in imports(file) if name in MODULES and name not in inside and name != "ingestd"}
