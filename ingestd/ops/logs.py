"""Log lines for machines (JSON) or people (console), on standard error, without secrets.

Everything goes through one chain: our own loggers, the libraries' stdlib loggers and Python's warnings. Redaction
looks at names (`password=…`), at shapes (`//user:…@host`) and at values made known by `hide`, in messages, fields and
tracebacks alike: exchange libraries quote signed URLs in their errors.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import orjson
import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from ingestd.config.models import LogConfig
from ingestd.config.secrets import MASK, is_secret_name, redact
from ingestd.printable import printable, printable_json

_OURS = "ingestd"
_FIRST = ("timestamp", "level", "event")  # in this order at the beginning of a line
# While a broker is away, this library logs forty lines a second about errors that we also get, and log once.
_TALKATIVE = "aiokafka"


def configure(config: LogConfig, stream: TextIO | None = None) -> None:
    """Send all log lines of the process to `stream` (None: standard error) as configured. May be called again."""
    stream = sys.stderr if stream is None else stream
    as_console = config.format == "console" or (config.format == "auto" and stream.isatty())
    level = logging.getLevelNamesMapping()[config.level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.StackInfoRenderer(),
                structlog.processors.format_exc_info,
                _redact_event,
                *(_console(stream) if as_console else [structlog.processors.JSONRenderer(serializer=_to_json)]),
            ],
        )
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # a second configure must reach loggers made before it
    )
    _route_stdlib(handler, level)


def redact_value(value: Any, name: str = "") -> Any:
    """Redact a field, by its name or within its text; containers too."""
    if name and value is not None and is_secret_name(name):
        return MASK
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {str(key): redact_value(item, str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redact_value(item) for item in value]
    if isinstance(value, BaseException):
        return redact(f"{type(value).__name__}: {value}")
    return redact(str(value))


def _redact_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {key: redact_value(value, key) for key, value in event.items()}


def _readable_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape what would let text from outside control the terminal or look like a log line of its own."""
    return {key: _readable(key, value) if isinstance(value, str) else value for key, value in event.items()}


def _readable(key: str, text: str) -> str:
    if key in ("exception", "stack"):
        return printable(text, keep="\n\t").replace("\n", "\n    ")
    return printable(text)


def _to_json(event: Any, **_options: Any) -> str:
    event = {name: event[name] for name in (*(key for key in _FIRST if key in event), *event)}
    try:
        return printable_json(orjson.dumps(event, option=orjson.OPT_NON_STR_KEYS).decode())
    except orjson.JSONEncodeError:  # an integer beyond 64 bits or a lone surrogate: log it as text
        return orjson.dumps({"event": ascii(event), "level": "error"}).decode()


def _console(stream: TextIO) -> list[Processor]:
    plain = structlog.dev.plain_traceback
    renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain, sort_keys=False)
    return [_readable_event, renderer]


def _route_stdlib(handler: logging.Handler, level: int) -> None:
    root = logging.getLogger()
    for old in [known for known in root.handlers if getattr(known, "_ingestd", False)]:
        root.removeHandler(old)
    handler._ingestd = True  # type: ignore[attr-defined] # by which the next `configure` finds it
    root.addHandler(handler)
    # Libraries log from WARNING on, with level = "debug" from INFO on: at DEBUG ccxt logs requests with their headers.
    root.setLevel(max(level, logging.INFO if level <= logging.DEBUG else logging.WARNING))
    logging.getLogger(_OURS).setLevel(level)
    if level > logging.DEBUG:
        logging.getLogger(_TALKATIVE).setLevel(logging.CRITICAL)
    logging.captureWarnings(True)
