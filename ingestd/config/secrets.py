"""Keeps secrets out of messages: recognises them by key name, and remembers the secret values read."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlunsplit

from ingestd.config.urls import split_url

MASK: Final = "***"

# What ends before a name although its last character is a letter or a digit: an escape of repr or JSON (\n, \x1b,
# \u00a0), of a URL (%C2%A0), of a terminal's colour (ESC[31m).
_AFTER_ESCAPE: Final = (
    r"(?<=\\[abefnrtv])|(?<=\\[0-7]{3})|(?<=\\x[0-9a-f]{2})|(?<=\\u[0-9a-f]{4})|(?<=\\U[0-9a-f]{8})|(?<=%[0-9a-f]{2})"
    r"|(?<=[\[;]\dm)|(?<=[\[;]\d\dm)"
)
SECRET_NAME: Final = (
    # a separate word, also in camel case (clientSecret), or after an escape; first the initials, which are quickly told
    rf"(?=[pscalt])(?:(?<![A-Za-z0-9])|(?-i:(?<=[a-z])(?=[A-Z]))|{_AFTER_ESCAPE})"
    r"(?:ssl|pg)?(?:pass(?:word|wd|phrase)|pwd|secret|credentials?|private[-_]?key|authorization"
    r"|(?:api|access|secret|listen)[-_]?(?:key|secret|sign|token|passphrase)|token|signature|sign)"
)
_SECRET_KEY = re.compile(rf"{SECRET_NAME}$", re.IGNORECASE)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

# The user part of a URL. In a data store's URL it ends at the last @, since people forget to quote a / or @ in a
# password; in any other URL it ends before the path, since a stream's path may hold an @ (…:9443/ws/btcusdt@trade).
_USER_PART = re.compile(
    r"\b((?:postgres(?:ql)?|rediss?|valkeys?|amqps?|mongodb)(?:\+\w+)?://)(\S*)@|(://)([^\s/]*)@", re.IGNORECASE
)
_ENCODED_WORD = re.compile(r"(?<![\w.%-])[\w.-]*%[^\s&]+")
_EQUALS: Final = r"%(?:25)*3[DA]"  # `=` or `:` as a URL spells it, even twice encoded
_ENCODED_EQUALS = re.compile(rf"=|{_EQUALS}", re.IGNORECASE)
_INVISIBLE = r"\u200b\u2060\ufeff"  # of no width, but they end a word as a blank does
# Blanks between a name and its `=`: written as such, escaped or percent-encoded.
_GAP: Final = (
    rf"(?:[\s{_INVISIBLE}]|\\(?:[nrtfv]|x[0-9a-f]{{2}}|u[0-9a-f]{{4}})"
    r"|%(?:25)*(?:20|09|0[AD]|C2%A0|E3%80%80|E2%80%[0-9A-F]{2}))*"
)
_NAMED: Final = rf"""{SECRET_NAME}(?:\\*["'])?{_GAP}"""
_NAMED_IN_VALUE = re.compile(rf"{_NAMED}(?:=|%(?:25)*3D)", re.IGNORECASE)
_BLANK_OUTSIDE_ASCII = re.compile(rf"[^\S\x00-\x7f]|[{_INVISIBLE}\u180e]")
_TEXT_IN_QUOTES: Final = r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'"""
# "database.password: unknown key" is a message about the key, not a password.
_NO_SENTENCE = r"(?!(?-i:unknown key|cannot be|must be|is (?:missing|empty|no|not))\b)"
_REDACTIONS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {MASK}"),
    (re.compile(
        rf"""({_NAMED}(?:[=:]|{_EQUALS}){_GAP}){_NO_SENTENCE}(?:{_TEXT_IN_QUOTES}|\\+["'][^"']*|[^\s&,;"'()}}\]]+)""",
        re.IGNORECASE), rf"\1{MASK}"),
    # An option of a command line, also in a list of its words: --password X.
    (re.compile(
        rf"""((?<![\w-])-{{1,2}}(?!-|no-)[\w-]*{SECRET_NAME}(?:["'],)?\s+)(?!["']?--){_NO_SENTENCE}"""
        rf"""(?:{_TEXT_IN_QUOTES}|[^\s"'()\]]+)""",
        re.IGNORECASE), rf"\1{MASK}"),
    # Redis' commands AUTH X and AUTH user X, but not a sentence with the word.
    (re.compile(
        r"""\b(AUTH(?:["'],)?\s+)"""
        r"(?!<|(?:is|was|has|called|command|failed|required|needed|error|with|without|and|or|to)\b)"
        r"""b?["']?[^\s"']+(?:(?:["'],)?\s+b?["']?[^\s"')\]]+)?"""), rf"\1{MASK}"),
)  # fmt: skip

# Masking "a" or "market" everywhere would make the log unreadable: such a password is masked only beside its key.
_A_PLAIN_WORD = re.compile(r"[a-z]{0,8}|.{0,3}", re.DOTALL)
_HIDDEN_AT_MOST = 4000  # bounded, because a password may be rotated every hour
_SEARCHED_CHARS = 16_384
hidden: dict[str, None] = {}


def hide(secret: str) -> None:
    """Mask this value in all messages from now on, plain or percent-encoded, unless it is short or a plain word."""
    if _A_PLAIN_WORD.fullmatch(secret) is None:
        hidden.update(dict.fromkeys((secret, quote(secret, safe=""), quote(secret), repr(secret)[1:-1])))
    while len(hidden) > _HIDDEN_AT_MOST:
        del hidden[next(iter(hidden))]


def redact(text: str) -> str:
    """Mask the secrets in a text, which is cut to 16,384 characters: what their names or forms give away (passwords,
    keys, tokens, signatures), and the values that `hide` has noted."""
    if len(text) > _SEARCHED_CHARS:  # a venue may send a megabyte, and the search is not linear
        text = f"{text[:_SEARCHED_CHARS]}..."
    for secret in sorted(hidden, key=len, reverse=True):
        text = text.replace(secret, MASK)
    text = _USER_PART.sub(_without_password, text)
    text = _ENCODED_WORD.sub(_without_encoded, text)
    for pattern, replacement in _REDACTIONS:
        text = pattern.sub(replacement, text)
    return text


def is_secret_name(name: str) -> bool:
    """Whether this is the name of a secret: `password`, `apiKey`, `X-MBX-APIKEY`."""
    return _SECRET_KEY.search(name) is not None


def why_doubtful(value: str) -> str | None:
    """Say why a user's name or another value that is no secret may have swallowed one; None if it does not look so.

    A blank outside ASCII, as copied from a web page, ends no word: the password of `user=u password=x` becomes a part
    of the user's name.
    """
    if _NAMED_IN_VALUE.search(value) is not None:
        return "has the name of a secret and = in it: put an ordinary space before that name"
    if _BLANK_OUTSIDE_ASCII.search(value) is not None:
        return "has a blank in it that is not ASCII, as web pages have: write an ordinary space"
    return None


def shown_url(url: str) -> str:
    """Mask the password and the secret parameters of a URL, or all of it when in doubt.

    Doubtful URLs are those that cannot be parsed, and those with an `@` after the host, since an unquoted `/` or `?` in
    the password may have ended the host too early.
    """
    try:
        parts, _ = split_url(url)
    except ValueError:
        return MASK
    if not parts.scheme or "@" in f"{parts.path}{parts.query}{parts.fragment}":
        return MASK
    user, at, hosts = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    netloc = (f"{name}:{MASK}@" if colon and "@" not in name else f"{MASK}@") if at else ""
    return urlunsplit(parts._replace(netloc=netloc + hosts, query=_shown_query(parts.query)))


def shown_value(value: Any, name: str = "") -> Any:
    """Return an option's value for printing: masked if its name is secret, URLs in part, containers recursively."""
    if name and value is not None and is_secret_name(name):
        return MASK
    if isinstance(value, dict):
        return {shown_value(key): shown_value(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [shown_value(item) for item in value]
    return shown_url(value) if isinstance(value, str) and _URL.match(value) else value


def secrets_of_url(url: str) -> list[str]:
    """List the secrets in a URL: the password (or a user alone) before the last @, and parameters with secret names."""
    user, _, _ = url.partition("://")[2].rpartition("@")
    secret = user.partition(":")[2] or user
    named = [value for key, value in parse_qsl(url.partition("?")[2]) if is_secret_name(key)]
    return [secret, unquote(secret), *named]


def secrets_in(value: Any, name: str = "") -> list[str]:
    """Every secret text in an option's value, by the same rules as `shown_value`."""
    if isinstance(value, dict):
        return [
            secret
            for key, item in value.items()
            for secret in [*secrets_in(item, name if is_secret_name(name) else str(key)), *secrets_in(key)]
        ]
    if isinstance(value, list):
        return [secret for item in value for secret in secrets_in(item, name)]
    if not isinstance(value, str):
        return []
    if name and is_secret_name(name):
        return [value]
    return secrets_of_url(value) if _URL.match(value) else []


def _shown_query(query: str) -> str:
    pairs = [pair.partition("=") for pair in query.split("&")]
    return "&".join(
        f"{name}={MASK}" if equals and is_secret_name(unquote(name)) else f"{name}{equals}{value}"
        for name, equals, value in pairs
    )


def _without_password(match: re.Match[str]) -> str:
    scheme, user = match[1] or match[3], match[2] or match[4] or ""
    if match[1] and re.search("[:/@?#]", user) is None:
        return match[0]  # only a user name; in other URLs it would be a key
    name, colon, _ = user.partition(":")
    return f"{scheme}{name}:{MASK}@" if colon and re.search("[/@?#]", name) is None else f"{scheme}{MASK}@"


def _without_encoded(match: re.Match[str]) -> str:
    word, start = match[0], 0
    for equals in _ENCODED_EQUALS.finditer(word):
        if equals.end() < len(word) and is_secret_name(unquote(word[start : equals.start()])):
            return word[: equals.end()] + MASK
        start = equals.end()
    return word
