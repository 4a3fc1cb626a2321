"""The wheel, not the checkout: what a user installs has everything and works in an empty directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ingestd import __version__

ROOT = Path(__file__).parents[2]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the checkout by the locked backend, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`ingestd` from the wheel in an environment of its own; only its dependencies are those of this one."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    bases = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    site = Path(sysconfig.get_path("purelib", vars=bases))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True, timeout=120)
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    empty = folder / "empty"
    empty.mkdir()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "INGESTD_"))}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(arguments, cwd=empty, env=environ, capture_output=True, text=True, timeout=120)

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = "python" if arguments[0] == "-c" else "ingestd"
        return run(str(folder / "venv" / "bin" / program), *arguments)

    return command


def test_it_carries_the_sql_the_configuration_and_the_type_marker(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("sql", "config"):
        there = {path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*") if path.is_file()}
        assert there
        assert {f"ingestd/_data/{folder}/{path.as_posix()}" for path in there} <= names
    assert "ingestd/py.typed" in names


def test_it_carries_nothing_else(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {"ingestd", f"ingestd-{__version__}.dist-info"}


def test_it_is_the_wheel_that_runs(installed: Run) -> None:
    result = installed("-c", "import ingestd; print(ingestd.__file__)")
    assert "site-packages" in result.stdout
    assert str(ROOT) not in result.stdout


def test_the_command_works(installed: Run) -> None:
    result = installed("--version")
    assert (result.returncode, result.stdout) == (0, f"ingestd {__version__}\n"), result.stderr


def test_the_example_configuration_is_accepted(installed: Run) -> None:
    where = installed("-c", "import importlib.resources as r; print(r.files('ingestd') / '_data/config/ingestd.toml')")
    result = installed("check", "-c", where.stdout.strip(), "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["ok"] is True
