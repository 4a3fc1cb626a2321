"""Writes to a server of the line protocol over HTTP, and explains its answers.

The only file of this sink that imports the HTTP library. The interface is that of InfluxDB 1 (`/write`), which QuestDB
and VictoriaMetrics have too, or with `influx.org` that of InfluxDB 2 (`/api/v2/write`).
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import re
import ssl
from datetime import UTC, datetime

import aiohttp

from ingestd import __version__
from ingestd.errors import ConnectionLost, InfluxError, PointsRefused
from ingestd.retry import retry_after_s
from ingestd.sinks.influx.options import InfluxConfig

_MOST_ANSWER_BYTES = 64 * 1024
_SMALL_BYTES = 1024  # a body that small is not compressed
_SHOWN_CHARACTERS = 300
_CLOSE_S = 2.0
_DROPPED = re.compile(r"\bdropped=(\d{1,9})\b")
_TOO_LARGE = 413
_OF_POINTS = (400, 422, _TOO_LARGE)  # statuses of an answer that may be about some of the points
# Answers of these statuses that are not about the points but about the request.
_OF_THE_REQUEST = re.compile(
    r"database is required|retention policy not found|invalid consistency|authenticat|authoriz"
    r"|(organization|org|bucket) .*not found|max-(series|values)-per-|gzip|Content-Encoding",
    re.IGNORECASE,
)
_WHAT_TO_DO = {
    401: "set influx.username and influx.password_file, or influx.token_file, to what it accepts",
    403: "grant this user the right to write to it",
    404: "create it (docs/influx.md), or correct influx.bucket and influx.org",
    415: "set influx.gzip = false",
}
_closing: set[asyncio.Task[None]] = set()


class InfluxServer:
    """An HTTP connection to the server, kept open between requests."""

    def __init__(self, config: InfluxConfig) -> None:
        """Raises ConfigError if a secret cannot be read, InfluxError if the CA's certificates cannot."""
        self._config = config
        self._url, self._parameters = _target(config)
        headers = {"User-Agent": f"ingestd/{__version__}", "Content-Type": "text/plain; charset=utf-8"}
        if config.username is not None:
            pair = f"{config.username}:{config.password()}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        elif config.token_file is not None:
            headers["Authorization"] = f"Token {config.token()}"
        self.is_closed = False
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=2, ssl=_tls(config)),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=config.connect_timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    @classmethod
    async def connect(cls, config: InfluxConfig) -> InfluxServer:
        """Connect, and write nothing once, which shows whether the server would take points. Raises as `write` does."""
        server = cls(config)
        try:
            await server.write(b"")
        except BaseException:
            await server.close()
            raise
        return server

    async def write(self, body: bytes) -> None:
        """Write lines, each of which ends with a line feed. Returns when the server has stored them all.

        Raises PointsRefused if it does not take all of them, InfluxError for any other answer, and ConnectionLost if
        there is none within `influx.request_timeout_s`. After an error, points may have been stored: writing them
        again changes nothing.
        """
        headers = {}
        if self._config.gzip and len(body) > _SMALL_BYTES:
            body = await asyncio.to_thread(gzip.compress, body, 1)
            headers["Content-Encoding"] = "gzip"
        status, asked, answer = await self._posted(body, headers)
        if status in (200, 204) or (not body and _takes_only_points(status, answer)):
            return
        said = _said(answer)
        shown = f"{self}: HTTP {status}: {said[:_SHOWN_CHARACTERS]}"
        if status in _OF_POINTS and (status == _TOO_LARGE or not _OF_THE_REQUEST.search(said)):
            dropped = _DROPPED.search(said)
            raise PointsRefused(shown, status=status, said=said, dropped=int(dropped[1]) if dropped else None)
        needs_a_person = status < 500 and status != 429
        remedy = f"; {_WHAT_TO_DO[status]}" if status in _WHAT_TO_DO else ""
        asked_s = retry_after_s(asked, datetime.now(UTC))
        raise InfluxError(shown + remedy, status=status, needs_a_person=needs_a_person, retry_after_s=asked_s)

    async def close(self) -> None:
        """Close the connection, and wait until that is done. Never raises."""
        self.terminate()
        await settled()

    def terminate(self) -> None:
        """Cut the connection now. What is under way may or may not arrive."""
        if not self.is_closed:
            self.is_closed = True
            task = asyncio.create_task(self._session.close(), name="influx-close")
            _closing.add(task)
            task.add_done_callback(_closing.discard)

    def __str__(self) -> str:
        """The server and the database, for messages."""
        return f"{self._config.url}, bucket {self._config.bucket}"

    async def _posted(self, body: bytes, headers: dict[str, str]) -> tuple[int, str | None, bytes]:
        """The answer's status, its `Retry-After` and the beginning of its text. Raises ConnectionLost."""
        try:
            async with (
                asyncio.timeout(self._config.request_timeout_s),
                self._session.post(
                    self._url, params=self._parameters, data=body, headers=headers, allow_redirects=False
                ) as reply,
            ):
                answer = b""
                while len(answer) < _MOST_ANSWER_BYTES and (more := await reply.content.read(_MOST_ANSWER_BYTES)):
                    answer += more
                return reply.status, reply.headers.get("Retry-After"), answer
        except TimeoutError as error:
            raise ConnectionLost(f"{self} has not answered for {self._config.request_timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: an answer that is no HTTP
            raise ConnectionLost(f"{self} does not answer: {str(error) or type(error).__name__}") from error


async def settled() -> None:
    """Wait until the connections that were cut are closed, at most two seconds."""
    loop = asyncio.get_running_loop()
    if ours := {task for task in _closing if task.get_loop() is loop}:
        await asyncio.wait(ours, timeout=_CLOSE_S)


def _target(config: InfluxConfig) -> tuple[str, dict[str, str]]:
    """The URL to write to, and its parameters."""
    if config.org is not None:
        parameters = {"org": config.org, "bucket": config.bucket, "precision": "ns"}
        return f"{config.url}/api/v2/write", parameters
    database, _, policy = config.bucket.partition("/")
    return f"{config.url}/write", {"db": database, **({"rp": policy} if policy else {}), "precision": "ns"}


def _tls(config: InfluxConfig) -> ssl.SSLContext | bool:
    if config.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(config.ca_file))
    except (OSError, ssl.SSLError) as error:
        text = f"influx.ca_file: {config.ca_file} cannot be read: {error}"
        raise InfluxError(text, status=0, needs_a_person=True) from error


def _takes_only_points(status: int, answer: bytes) -> bool:
    """Whether the answer to an empty request is only that it is empty: then the rest of it was right."""
    return status == 400 and not _OF_THE_REQUEST.search(_said(answer))


def _said(answer: bytes) -> str:
    """What an answer says: the text in its JSON, or all of it."""
    text = answer.decode("utf-8", "replace").strip()
    try:
        document = json.loads(text)
    except ValueError:
        return text
    if not isinstance(document, dict):
        return text
    return str(document.get("error") or document.get("message") or text)
