"""The command line as a process: exit codes, messages, and what it costs to ask for help."""

from __future__ import annotations

import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ingestd import __version__, cli


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ingestd", *arguments], capture_output=True, text=True, timeout=60)


def test_the_version_is_printed() -> None:
    result = run("--version")
    assert (result.returncode, result.stdout) == (0, f"ingestd {__version__}\n")


def test_help_names_every_command_and_loads_none() -> None:
    code = (
        "import sys\nfrom ingestd.cli import cli\n"
        "try: cli.main(['--help'], prog_name='ingestd')\n"
        "except SystemExit: pass\n"
        "heavy = {'ccxt', 'asyncpg', 'aiohttp', 'aiokafka', 'redis', 'pydantic', 'structlog'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert all(f"  {name} " in result.stdout for name in cli.COMMANDS)


@pytest.mark.parametrize(
    "arguments", [["fly"], ["check", "--fast"], ["check", "-c", "/nowhere/at/all.toml"], ["--colour", "check"]]
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["status", "down"])
def test_a_command_of_migrate_has_its_help_and_its_configuration(command: str) -> None:
    result = run("migrate", command, "--help")  # without a configuration, which no one needs in order to ask
    assert result.returncode == 0, result.stderr
    assert "--config FILE" in result.stdout


@pytest.mark.parametrize("arguments", [["-c", "FILE", "status"], ["status", "-c", "FILE"]])
def test_migrate_takes_its_configuration_on_either_side_of_its_command(arguments: list[str], tmp_path: Path) -> None:
    file = tmp_path / "without a database.toml"
    file.write_text("")
    result = run("migrate", *(str(file) if part == "FILE" else part for part in arguments))
    assert (result.returncode, result.stderr) == (2, "ingestd: database: is missing; add [database] with a dsn\n")


def test_a_dry_run_of_a_status_is_refused() -> None:
    result = run("migrate", "--dry-run", "status")
    assert result.returncode == 2
    assert "options of status stand behind its name" in result.stderr


@pytest.mark.parametrize("package", ["click", "structlog"])
def test_a_package_that_is_not_installed_is_named_once(package: str) -> None:
    program = f"import sys, runpy; sys.modules[{package!r}] = None; sys.argv = ['ingestd', 'check', '-c', '/nowhere']"
    result = subprocess.run(
        [sys.executable, "-c", f"{program}; runpy.run_module('ingestd', run_name='__main__')"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.startswith(f"ingestd: the Python package {package} is not installed: ")
    assert result.stderr.count("\n") == 1


def test_ctrl_c_before_a_command_listens_ends_it_as_sigterm_does() -> None:
    """By the signal, without a word. A process that a shell puts into the background begins with SIGINT ignored."""
    program = (
        "import os, signal, sys\nfrom ingestd import cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Importing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'ingestd.cli.check': os.kill(os.getpid(), signal.{})\n"
        "sys.meta_path.insert(0, Importing())\ncli.main(['check', '-c', '/nowhere'])"
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        result = subprocess.run(
            [sys.executable, "-c", program.replace("{}", number.name)], capture_output=True, text=True, timeout=60
        )
        assert (result.returncode, result.stdout, result.stderr) == (-number, "", "")


@pytest.mark.parametrize("package", ["ingestd.cli", "click", "ingestd.failpoints"])
@pytest.mark.parametrize(
    "start", ["runpy.run_module('ingestd', run_name='__main__')", "from ingestd.__main__ import main"]
)
def test_ctrl_c_during_the_first_imports_ends_a_command_by_the_signal(start: str, package: str) -> None:
    """By `python -m ingestd`, and by the console script, which imports `main`."""
    program = (
        "import os, runpy, signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Importing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {package!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        f"sys.meta_path.insert(0, Importing())\n{start}\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (-signal.SIGINT, "", "")


def test_the_console_script_is_the_one_that_covers_the_first_imports() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["scripts"] == {"ingestd": "ingestd.__main__:main"}
