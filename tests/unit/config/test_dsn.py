"""How a PostgreSQL connection string is read: as libpq itself reads it, or refused without showing any of it."""

from __future__ import annotations

import traceback
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.config import dsn as config_dsn
from ingestd.errors import ConfigError
from tests.support import libpq


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://",
        "postgresql://h",
        "postgresql://u@h:5432/db",
        "postgres://u:p@h:5432/db?sslmode=require",
        "postgresql://u:p%40ss%2Fw%3Ard%3F%25@h/db",
        "postgresql://u:p?w#x&y=z@h/db",
        "postgresql://:p@h",
        "postgresql://u:@h",
        "postgresql://[::1]:5432,h2:6432/db",
        "postgresql://a,b,c:1/db?target_session_attrs=read-write&load_balance_hosts=random",
        "postgresql://x/db?host=a,b&port=1,2",
        "postgresql://%2Frun%2Fpostgresql/db",
        "postgresql:///db?host=/run/postgresql&user=u&passwor%64=PW",
        "postgresql://h/db?ssl=true&connect_timeout=10&application_name=a%20b",
        "postgresql://h/db?channel_binding=prefer&gssencmode=disable&sslcompression=0&client_encoding=UTF8",
        "host=h port=5432 user=u password=p dbname=db",
        "host = 'h'  password='a \\' b' dbname = db",
        "password=a\\ b host=''",
        " host=h hostaddr=127.0.0.1 service=x passfile=/p ",
    ],
)
def test_it_is_read_as_libpq_reads_it(text: str) -> None:
    assert config_dsn.read(text) == libpq.parsed(text)
    again = config_dsn.read(config_dsn.render(config_dsn.read(text)))
    assert again == {name: value for name, value in config_dsn.read(text).items() if value}


CANARY = "S3cret-Canary"
FORMS = [
    "postgresql://u:{}@127.0.0.1:1/db",
    "postgresql://u@corp:{}@127.0.0.1:1/db",
    "postgresql://u@corp.example:{}@127.0.0.1:1/db",
    "u:{}@127.0.0.1",
    "u:{}@127.0.0.1:1/db",
    "//u:{}@127.0.0.1:1/db",
    "mysql://u:{}@127.0.0.1:1/db",
    "jdbc:postgresql://127.0.0.1:1/db?user=u&password={}",
    "postgresql+asyncpg://u:{}@127.0.0.1:1/db",
    "postgresql:/u:{}@127.0.0.1:1/db",
    "postgresql:// u:{}@127.0.0.1:1/db",
    "postgresql://u:p {}@127.0.0.1:1/db",
    "postgresql://u:p@a/{}@127.0.0.1:1/db",
    "postgresql://u:p/{}@127.0.0.1:1/db",
    "postgresql://u:p?{}@127.0.0.1:1/db",
    "postgresql://u:p#{}@127.0.0.1:1/db",
    "postgresql://u:p@{}@127.0.0.1:1/db",
    "postgresql://u:%zz{}@127.0.0.1:1/db",
    "postgresql://u:%00{}@127.0.0.1:1/db",
    "postgresql://u:%ff{}@127.0.0.1:1/db",
    "postgresql://u:{}@127.0.0.1:port/db",
    "postgresql://u:{}@[::1/db",
    "postgresql://u:[{}@127.0.0.1:1/db",
    "postgresql://u:{}",
    "postgresql://u:{}/db",
    "postgresql://127.0.0.1:1/db?user=u&password={}",
    "postgresql://127.0.0.1:1/db?user=u&passwor%64={}",
    "postgresql://127.0.0.1:1/db?user=u&%70assword=x%20{}",
    "postgresql://127.0.0.1:1/db?user=u&password=a&{}=1",
    "postgresql://127.0.0.1:1/db?user=u&password=a={}",
    "postgresql://127.0.0.1:1/db?user=u&password=a@{}",
    "postgresql://127.0.0.1:1/db?user=u&pasword={}",
    "postgresql://127.0.0.1:1/db?user=u&passwd={}",
    "postgresql://u@127.0.0.1:1/db?sslpassword={}",
    "postgresql://u@127.0.0.1:1/db?scram_client_key={}",
    "postgresql://u@127.0.0.1:1/db?oauth_client_secret={}",
    "postgresql://u@127.0.0.1:1/db?options=-c%20x.y={}",
    "postgresql://u:{}@127.0.0.1:1/db?channel_binding=require&sslmode=maybe",
    "host=127.0.0.1 port=1 user=u dbname=db password={}",
    "host=127.0.0.1 port=1 user=u dbname=db password='x {}'",
    "host=127.0.0.1 port=1 user=u dbname=db password = 'x \\' {}'",
    "host=127.0.0.1 port=1 user=u dbname=db password=x\\ {}",
    "host=127.0.0.1 port=1 password=x {}",
    "host=127.0.0.1 port=1 password=x {}=1",
    "host=127.0.0.1 port=1 password='x {}",
    "host=127.0.0.1 port=1 PASSWORD={}",
    "host=127.0.0.1 port=1 user=u:{}",
    "host=127.0.0.1 port=1 dbname=db user=u\u00a0password={}",
    "host=127.0.0.1 port=1 user=u dbname=db\u3000password={}",
    "host=127.0.0.1 port=1 user=u application_name=x\u00a0password={}",
    "host=127.0.0.1 port=1 user=u application_name=x\u2003PGPASSWORD={}",
    "host=127.0.0.1 port=1 dbname=db user=u\u200bpassword={}",
    "host=127.0.0.1 port=1 dbname=db user=u\x1cpassword={}",
    "host=127.0.0.1 port=1 dbname=db user=u\u00a0--password\u00a0{}",
    "host=127.0.0.1 port=1 dbname=db user='u password = {}'",
    "host=127.0.0.1 port=1 dbname=db user=u,password={}",
    "host=/tmp\u00a0password={} user=u dbname=db",
    "host=127.0.0.1\u00a0password={} port=1 user=u dbname=db",
    "host=127.0.0.1 port=1\u00a0password={} user=u dbname=db",
    "host=127.0.0.1 port=1 user=u dbname=db sslmode=disable\u00a0password={}",
    "host=127.0.0.1 port=1 user=u\u00a0password\u00a0={}",
    "postgresql://u%C2%A0password%3D{}@127.0.0.1:1/db",
    "postgresql://u%20password%3D{}@127.0.0.1:1/db",
    "postgresql://u%0Apassword%253D{}@127.0.0.1:1/db",
    "postgresql://u\u200bpassword={}@127.0.0.1:1/db",
    "postgresql://u&password={}@127.0.0.1:1/db",
    "postgresql://u@127.0.0.1:1/db%E3%80%80password%3D{}",
    "postgresql://u@127.0.0.1:1/db&password%3D{}",
    "postgresql://u@127.0.0.1:1/db?application_name=x%C2%A0password%3D{}",
    "host=u:{}@127.0.0.1",
    "host=127.0.0.1 dbname=postgresql://u:{}@h/db",
    "{}",
]


@pytest.mark.parametrize("form", FORMS)
def test_a_password_is_never_shown(form: str) -> None:
    text = form.format(CANARY)
    assert CANARY not in config_dsn.shown(text)
    assert CANARY not in refusal(text)


@given(st.text(max_size=60), st.text(max_size=40))
def test_no_refusal_depends_on_what_was_written(before: str, after: str) -> None:
    for form in ("{}", "postgresql://{}", "host=h {}", "postgresql://u:{}@h/db"):
        assert CANARY not in refusal(form.format(before + CANARY + after))


def refusal(text: str) -> str:
    """What is said of it, a traceback too; "" when it is read."""
    try:
        config_dsn.read(text)
    except ConfigError:
        return traceback.format_exc()
    return ""


def test_what_is_shown_is_read_again() -> None:
    assert config_dsn.shown("host=h user=u password='a b' dbname=db port=1") == "postgresql://u:***@h:1/db"
    assert config_dsn.shown("postgresql://u@a,b:2/db?sslpassword=x") == "postgresql://u@a,b:2/db?sslpassword=***"
    assert config_dsn.shown("postgresql://db") == "postgresql://db/"


def test_a_password_put_in_is_read_again() -> None:
    for dsn in ("postgresql://u@h:1/db", "host=h user=u dbname=db port=1", "postgresql://u:old@h:1/db"):
        assert config_dsn.changed(dsn, password="p@ss/w:rd? %") == "postgresql://u:p%40ss%2Fw%3Ard%3F%20%25@h:1/db"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("channel_binding=require", "channel_binding must be disable or prefer"),
        ("options=-csearch_path%3Dx", "options is not supported, since PgBouncer refuses it"),
        ("connect_timeout=soon", "connect_timeout must be a whole number of seconds"),
        ("connect_timeout=99999999999999999999", "connect_timeout must be a whole number"),
        ("target_session_attrs=standby", "target_session_attrs must be any, read-write or primary"),
        ("sslmode=yes", "sslmode must be disable, allow"),
        ("sslnegotiation=direct", "needs sslmode=require"),
        ("sslrootcert=system&sslmode=require", "needs sslmode=verify-full"),
        ("ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.2", "is above"),
        ("host=a,b&port=1,2,3", "one for each host"),
        ("port=70000", "port must be a number up to 65535"),
        ("hostaddr=name", "hostaddr must be an IP address"),
        ("host=a,b&hostaddr=127.0.0.1", "one address for each host"),
        ("host=a..b", "host must be a name"),
        ("host=/" + "x" * 120, "the folder of a socket"),
        ("sslmod=require", "did you mean sslmode?"),
        ("pool_size=5", "has the parameter pool_size, which libpq does not know"),
        ("keepalives=1", "keepalives is not supported"),
    ],
)
def test_what_is_refused_is_named(query: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config_dsn.read(f"postgresql:///db?{query}")


@pytest.mark.parametrize("blank", ["\x1c", "\x1e", "\x85", "\u2003"])
@pytest.mark.parametrize("name", ["port", "connect_timeout"])
def test_a_number_behind_a_blank_that_is_none_to_c_is_refused(name: str, blank: str) -> None:
    with pytest.raises(ConfigError):
        config_dsn.read(f"host=h {name}='{blank}5432'")


@pytest.mark.parametrize("name", ["user", "dbname", "application_name", "passfile", "service", "sslkey"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("u\u00a0x", "has a blank in it that is not ASCII"),
        ("u\u3000x", "has a blank in it that is not ASCII"),
        ("u\x85x", "has a blank in it that is not ASCII"),
        ("u\u200bx", "has a blank in it that is not ASCII"),
        ("u\u00a0password=x", "has the name of a secret and = in it"),
        ("u token=x", "has the name of a secret and = in it"),
        ("u;PGPASSWORD=x", "has the name of a secret and = in it"),
    ],
)
def test_a_value_that_may_have_swallowed_a_password_is_refused_by_name(name: str, value: str, words: str) -> None:
    for text in (f"host=h {name}='{value}'", f"postgresql://h/?{name}={quote(value)}"):
        with pytest.raises(ConfigError, match=f"{name} {words}") as refused:
            config_dsn.read(text)
        assert value not in str(refused.value)
        assert config_dsn.shown(text) == "***"


@pytest.mark.parametrize("password", ["a\u00a0b", "a\u3000password=b", "token=x"])
def test_a_password_may_be_any_text(password: str) -> None:
    for text in (f"host=h password='{password}'", f"postgresql://u:{quote(password)}@h/db"):
        assert config_dsn.read(text)["password"] == password
        assert password not in config_dsn.shown(text)


@pytest.mark.parametrize("value", ["my app", "gr\u00fc\u00dfe", "\u5e02\u5834", "app=1", "my_token", "compass=n"])
def test_other_values_are_read_and_shown(value: str) -> None:
    text = f"host=h user=u application_name='{value}'"
    assert config_dsn.read(text)["application_name"] == value
    assert quote(value) in config_dsn.shown(text)
