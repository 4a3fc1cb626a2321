"""Which of a DSN's servers is taken: each is tried by itself, with a time limit of its own."""

from __future__ import annotations

import socket
import ssl
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from ingestd.errors import ConfigError, ConnectionLost, DatabaseError
from ingestd.storage.database import Database
from tests.support.certificates import self_signed
from tests.support.postgres_doubles import Double, Kind, double

LIMIT_S = 10.0
SHORT_S = 1.0  # where one says nothing: enough for the other to answer on a busy machine


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGSSLMODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


async def reached(dsn: str, limit_s: float = LIMIT_S) -> str:
    """The server that a connection was made to."""
    database = await Database.connect(dsn, connect_timeout_s=limit_s)
    try:
        return str(database.target)
    finally:
        await database.close()


async def doubles(stack: AsyncExitStack, *kinds: Kind) -> list[Double]:
    return [await stack.enter_async_context(double(kind)) for kind in kinds]


@pytest.mark.parametrize("first", ["silent", "starting", "full", "standby", "read-only"])
async def test_the_next_is_taken_when_the_first_does_not_serve(first: Kind) -> None:
    async with AsyncExitStack() as stack:
        one, two = await doubles(stack, first, "serves")
        hosts = f"127.0.0.1:{one.port},127.0.0.1:{two.port}"
        for dsn in (
            f"postgresql://me@{hosts}/market",
            f"postgresql://me@{hosts}/market?target_session_attrs=read-write",
            f"postgresql://me@/market?host=127.0.0.1,127.0.0.1&port={one.port},{two.port}",
            f"host=127.0.0.1,127.0.0.1 port={one.port},{two.port} user=me dbname=market",
        ):
            assert f"127.0.0.1:{two.port}," in await reached(dsn, SHORT_S if first == "silent" else LIMIT_S)
        assert two.sessions[0]["database"] == "market"
        assert one.asked


async def test_the_next_is_taken_when_nothing_listens_or_the_name_is_unknown() -> None:
    async with double("serves") as live:
        for dead in ("127.0.0.1:1", "no-such-host.invalid:5432", "%2Fnowhere:5432", "[::1]:1"):
            assert f":{live.port}," in await reached(f"postgresql://me@{dead},127.0.0.1:{live.port}/market")


async def test_a_standby_is_taken_only_when_any_will_do() -> None:
    async with double("standby") as standby:
        await reached(f"postgresql://me@127.0.0.1:{standby.port}/market")
        with pytest.raises(ConnectionLost, match="is a standby or read-only"):
            await reached(f"postgresql://me@127.0.0.1:{standby.port}/market?target_session_attrs=primary")
        hosts = f"127.0.0.1:{standby.port},127.0.0.1:1"
        assert f":{standby.port}," in await reached(f"postgresql://me@{hosts}/market?target_session_attrs=any")
        with pytest.raises(ConnectionLost) as caught:
            await reached(f"postgresql://me@{hosts}/market")
        assert f"127.0.0.1:{standby.port}, database 'market', user 'me': is a standby" in str(caught.value)
        assert "127.0.0.1:1, database 'market', user 'me': nothing listens there" in str(caught.value)


async def test_a_wrong_password_is_not_tried_elsewhere() -> None:
    async with AsyncExitStack() as stack:
        one, two = await doubles(stack, "wrong password", "serves")
        with pytest.raises(DatabaseError, match="check the password"):
            await reached(f"postgresql://me:wrong@127.0.0.1:{one.port},127.0.0.1:{two.port}/market")
        assert not two.asked


async def test_each_address_of_a_name_has_its_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with two addresses, of which the first accepts and says nothing."""
    known = socket.getaddrinfo

    def lookup(host: str, port: int, *args: object, **options: object) -> object:
        if host != "two.example":
            return known(host, port, *args, **options)  # type: ignore[arg-type]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{last}", port)) for last in (2, 1)]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    async with double("serves") as live, double("silent", "127.0.0.2", live.port) as silent:
        assert f"two.example:{live.port}," in await reached(f"postgresql://me@two.example:{live.port}/market", SHORT_S)
        assert (silent.asked, live.asked) >= (1, 1)


async def test_a_socket_folder_and_an_address_of_version_6(tmp_path: Path) -> None:
    async with double("serves", "::1") as live:
        assert f"::1:{live.port}," in await reached(f"postgresql://me@[::1]:{live.port}/market")
        assert await reached(f"postgresql://me@named/market?hostaddr=::1&port={live.port}")
    with pytest.raises(ConnectionLost, match="there is no such socket"):
        await reached(f"postgresql://me@/market?host={tmp_path}")


async def test_the_limit_of_the_dsn_counts() -> None:
    async with double("silent") as silent:
        with pytest.raises(ConnectionLost, match="did not answer within 1 s"):
            await reached(f"postgresql://me@127.0.0.1:{silent.port}/market?connect_timeout=1")


async def test_the_session_is_named_as_the_dsn_says() -> None:
    async with double("serves") as live:
        for name, shown in (
            ("?application_name=mine", "mine"),
            ("?fallback_application_name=other", "other"),
            ("", "ingestd"),
        ):
            await reached(f"postgresql://me@127.0.0.1:{live.port}/market{name}")
            assert live.sessions[-1]["application_name"] == shown
            assert set(live.sessions[-1]) - {""} == {"application_name", "client_encoding", "database", "user"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of the name localhost: the certificate and its key."""
    return self_signed(tmp_path_factory.mktemp("tls"))


def server_side(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


async def test_tls_asks_for_and_checks_the_name_and_not_the_address(certificate: tuple[Path, Path]) -> None:
    async with double("serves", tls=server_side(certificate)) as live:
        at = f"localhost:{live.port}/market?sslrootcert={certificate[0]}"
        for mode in ("prefer", "require", "verify-ca", "verify-full"):
            await reached(f"postgresql://me@{at}&sslmode={mode}")
        assert live.names == ["localhost"] * 4
        address = f"127.0.0.1:{live.port}/market?sslrootcert={certificate[0]}"
        await reached(f"postgresql://me@{address}&sslmode=verify-ca")
        await reached(f"postgresql://me@{address}&sslmode=disable")
        with pytest.raises(ConnectionLost, match="its certificate is not accepted"):
            await reached(f"postgresql://me@{address}&sslmode=verify-full")
        with pytest.raises(ConnectionLost, match="its certificate is not accepted"):
            await reached(f"postgresql://me@localhost:{live.port}/market?sslmode=verify-full&sslrootcert=system")
        await reached(f"postgresql://me@localhost:{live.port}/market?hostaddr=127.0.0.1&sslmode=require")
        assert live.names[-1] == "localhost"


async def test_a_server_without_tls(certificate: tuple[Path, Path]) -> None:
    async with double("serves") as live:
        for mode in ("", "?sslmode=prefer", "?sslmode=allow", "?sslmode=disable"):
            await reached(f"postgresql://me@127.0.0.1:{live.port}/market{mode}")
        with pytest.raises(ConnectionLost, match="no connection"):
            await reached(f"postgresql://me@127.0.0.1:{live.port}/market?sslmode=require")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("sslmode=verify-full", "needs sslrootcert"),
        ("sslmode=require&sslrootcert=/nowhere", "sslrootcert cannot be used"),
        ("sslcert=/nowhere", "sslcert and sslkey cannot be used"),
        ("service=nobody", "names a service that no service file has"),
    ],
)
async def test_a_file_that_cannot_be_used_is_a_mistake_of_the_configuration(query: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        await reached(f"postgresql://me@127.0.0.1:1/market?{query}")


async def test_service_environment_and_password_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The DSN counts before the service, the service before the environment."""
    async with double("serves") as live:
        services = f"# mine\n[other]\nport=1\n[market]\nhost=127.0.0.1\nport={live.port}\nuser=served\n"
        (tmp_path / ".pg_service.conf").write_text(services, encoding="utf-8-sig")
        monkeypatch.setenv("PGUSER", "environed")
        monkeypatch.setenv("PGDATABASE", "db")
        await reached("postgresql://?service=market")
        assert (live.sessions[-1]["user"], live.sessions[-1]["database"]) == ("served", "db")
        monkeypatch.setenv("PGSERVICE", "market")
        await reached("postgresql://given@")
        assert (live.sessions[-1]["user"], live.sessions[-1]["database"]) == ("given", "db")
        # A line with too few fields ended asyncpg with a ValueError.
        (tmp_path / ".pgpass").write_text("broken\n*:*:*:*:pass\\:word\n")
        (tmp_path / ".pgpass").chmod(0o600)
        await reached("postgresql://given@")
