"""Explains errors of Redis and of its client library, with advice."""

from __future__ import annotations


def explained(text: str) -> str:
    """The server's error, or the reason why there is no connection, and what to do about it."""
    if text.startswith("No master found for"):  # the library appends its objects with all their options
        return "no sentinel answers, or none knows this master; correct redis.url, or start them"
    if " connecting to " in text:  # "Error 111 connecting to db:6379. Connection refused."
        reasons = [reason for marks, reason in _NO_CONNECTION if any(mark in text for mark in marks)]
        return reasons[0] if reasons else f"no connection ({text.rstrip('.').rpartition('. ')[2]})"
    for mark, advice in _ADVICE:
        if mark in text:
            return f"{text.rstrip('.')}; {advice}"
    return text


_NO_CONNECTION = (
    (("Error 111 ", "Errno 111", "refused"), "nothing listens there; is the server running, and on this port?"),
    (("Error -2 ", "Error -3 ", "Error -5 ", "not known", "name resolution"),
     "the host name is not known; correct redis.url or the resolver"),
    (("Error 2 ",), "there is no such socket; is the server running?"),
    (("Error 13 ",), "this user may not connect to that socket"),
)  # fmt: skip
_ADVICE = (
    ("OOM", "messages go on, caches do not: raise maxmemory or set maxmemory-policy to volatile-ttl"),
    ("WRONGPASS", "check the user in redis.url and redis.password_file"),
    ("invalid username-password", "check the user in redis.url and redis.password_file"),
    ("Authentication required", "set redis.password_file, and the user in redis.url"),
    ("NOAUTH", "set redis.password_file, and the user in redis.url"),
    ("NOPERM", "the user needs the commands, keys and channels that docs/redis.md lists"),
    ("no permissions", "the user needs the commands, keys and channels that docs/redis.md lists"),
    ("READONLY", "this is a replica: name the master, or the sentinels that know it"),
    ("WRONGTYPE", "another program uses the same key: give ingestd a database of its own"),
)
