"""Who may import whom, read from the source. The rule is the table of docs/architecture.md."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ingestd"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

# Files at the top that import no room, and that every room may import. Those that may import other leaves: which.
LEAVES: dict[str, set[str]] = {
    "records": set(),
    "channels": {"records"},
    "retry": {"log_limit"},
    "log_limit": {"clock"},
    "clock": set(),
    "printable": set(),
    "files": {"failpoints"},
    "errors": {"retry"},
    "failpoints": {"errors"},
    "worker": {"errors"},
    "status": {"records"},
    "validation": {"clock", "records"},
    # Rooms that every room may import.
    "config": {"channels", "errors"},
    "venues": {"clock", "config", "errors", "records", "status"},
}

# Part of the room `config`: they lie with the sinks, so that a sink is one folder and one line.
SECTIONS_OF_SINKS = r"sinks/table|sinks/\w+/options"

# Each outside service is reached through one file: an upgrade of its library touches that file, and its errors are
# translated there.
SEAMS = {
    "ccxt": {  # making exchanges, what derives from its exchange and its socket, its errors
        "ingestd/feeds/ccxt/tap.py",
        "ingestd/feeds/ccxt/tapped_exchange.py",
        "ingestd/feeds/ccxt/tapped_client.py",
        "ingestd/feeds/ccxt/ccxt_errors.py",
    },
    "asyncpg": {"ingestd/storage/database.py", "ingestd/storage/dialling.py"},  # in use, and being connected
    "sqlalchemy": {"ingestd/repository/session.py"},
    "psycopg": {"ingestd/repository/session.py"},
    "pyarrow": {"ingestd/repository/arrow.py"},
    "prometheus_client": {"ingestd/ops/metrics.py"},
    "picows": {"ingestd/feeds/native/socket.py"},
    "redis": {"ingestd/sinks/redis/connecting.py"},
    "talib": {"ingestd/indicators/compute.py"},
    "numpy": {"ingestd/indicators/compute.py"},
    "cryptography": {"ingestd/applications/sealing.py"},
    "matplotlib": {"ingestd/lab/bench/plot.py"},
    "cryptofeed": {"ingestd/lab/bench/peer_cryptofeed.py"},  # run by another interpreter, imported by nothing
    "aiokafka": {  # a batch, a fetch, reaching a broker, producing, a group's member, its errors
        "ingestd/kafka/batch_format.py",
        "ingestd/kafka/batches.py",
        "ingestd/kafka/connecting.py",
        "ingestd/kafka/producer.py",
        "ingestd/kafka/consumer.py",
        "ingestd/kafka/errors.py",
    },
}

LONGEST_FILE = 400


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


def rooms_in(page: str) -> dict[str, set[str]]:
    """The table of the page, from the top floor down: what each room may import."""
    table = page.partition("<!-- rooms -->")[2].partition("<!-- end of rooms -->")[0]
    rows = re.findall(r"^\| `([a-z_/]+)` \|[^|]*\|([^|]*)\|$", table, re.MULTILINE)
    return {room: {name.strip() for name in may.split(",") if name.strip()} for room, may in rows}


ROOMS = rooms_in(PAGE)


def room_of(module: str) -> str:
    """The room or leaf that a module is in: the longest name of the table that it begins with."""
    path = module.replace(".", "/").removeprefix("ingestd/")
    if re.fullmatch(SECTIONS_OF_SINKS, path):
        return "config"
    known = [*ROOMS, *LEAVES]
    return max((name for name in known if path == name or path.startswith(f"{name}/")), key=len, default=path)


@functools.cache
def arrows() -> dict[tuple[str, str], set[str]]:
    """Which room imports which, and by what files."""
    found: dict[tuple[str, str], set[str]] = {}
    for file in files():
        module = module_of(file)
        for name in imports(file):
            if is_within(name, "ingestd") and name != "ingestd" and room_of(name) != room_of(module):
                found.setdefault((room_of(module), room_of(name)), set()).add(f"{module} imports {name}")
    return found


def allowed(room: str, imported: str) -> bool:
    if room in LEAVES:
        return imported in LEAVES[room]
    return imported in LEAVES or imported in ROOMS.get(room, set())


def test_no_room_imports_what_the_page_does_not_allow() -> None:
    wrong = {arrow: by for arrow, by in arrows().items() if not allowed(*arrow)}
    assert not wrong


def test_every_file_is_in_a_room_of_the_page_or_is_a_leaf() -> None:
    places = {module: room_of(module) for module in MODULES - {"ingestd", "ingestd.lab"}}
    assert not {module for module, room in places.items() if room not in ROOMS and room not in LEAVES}


def test_every_room_and_arrow_of_the_page_exists() -> None:
    assert {room for room in ROOMS if not (PACKAGE / room).is_dir() and not (PACKAGE / f"{room}.py").is_file()} == set()
    drawn = {(room, name) for room, may in ROOMS.items() for name in may}
    unused = drawn - set(arrows())
    assert not unused, "arrows that nothing needs: take them off the page"


def test_every_arrow_points_down() -> None:
    """So there is no circle of rooms: the page lists them from the top floor down."""
    floors = list(ROOMS)
    assert not [(room, name) for room, may in ROOMS.items() for name in may if floors.index(name) <= floors.index(room)]


@pytest.mark.parametrize(
    ("room", "imported", "may"),
    [
        ("feeds/ccxt", "sinks", False),
        ("feeds/ccxt", "storage", False),
        ("feeds/ccxt", "intake", False),
        ("sinks", "feeds", False),
        ("sinks/kafka", "feeds/streams", False),
        ("storage", "feeds", False),
        ("storage", "sinks", False),
        ("intake", "sinks", False),
        ("intake", "feeds", False),
        ("backfill", "sinks", False),
        ("journal", "intake", False),
        ("service", "lab/sim", False),
        ("records", "clock", False),
        ("config", "records", False),
        ("newcomer", "sinks", False),
        ("sinks/timescale", "storage/writer", True),
        ("sources", "storage/writer", True),
        ("backfill", "storage/writer", True),
        ("cli", "service", True),
        ("service", "sinks", True),
        ("service", "sinks/redis", False),
        ("feeds/ccxt", "ops", False),
        ("applications", "repository", False),
        ("service", "applications", False),
    ],
)
def test_the_page_says_what_the_design_says(room: str, imported: str, may: bool) -> None:
    assert allowed(room, imported) is may


def test_only_the_command_line_runs_the_lab() -> None:
    users = {room for room, imported in arrows() if imported.startswith("lab/") and not room.startswith("lab/")}
    assert users == {"cli"}


def test_every_room_says_what_it_is_for() -> None:
    """What it is for, what comes in, what goes out."""
    rooms = [file for file in PACKAGE.rglob("__init__.py") if file.parent.relative_to(PACKAGE).as_posix() in ROOMS]
    silent = [
        str(file)
        for file in rooms
        if re.search(r"^In: .*^Out: ", ast.get_docstring(tree_of(file)) or "", re.MULTILINE | re.DOTALL) is None
    ]
    assert silent == [str(PACKAGE / "cli" / "__init__.py")], "the command line has a docstring of its own"


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


def test_every_file_is_short() -> None:
    lengths = {
        file.relative_to(ROOT).as_posix(): len(file.read_text(encoding="utf-8").splitlines()) for file in files()
    }
    assert {name for name, length in lengths.items() if length > LONGEST_FILE} == set(), "split it"


def test_no_module_imports_itself_in_a_circle() -> None:
    """At import time; an import inside a function is a way out of a circle, not a part of it."""
    for start in MODULES:
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
    file = path.with_suffix(".py")
    if not file.is_file():
        file = path / "__init__.py"
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
