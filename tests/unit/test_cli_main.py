"""Errors, exit codes, and what stands on which stream."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from hotmend.cli import main as main_module
from hotmend.cli.main import hotmend, run
from hotmend.model.errors import FetchError, HotmendError, InputError, UsageError


@pytest.mark.parametrize("name", ["build", "inspect", "ps", "apply", "status", "revert"])
def test_every_command_has_help_and_json(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    assert "--json" in capfd.readouterr().out


@pytest.mark.parametrize("arguments", [["nonsense"], ["inspect"], ["build", "one"], ["inspect", "--nonsense", "x"]])
def test_wrong_usage_is_2_with_a_hint(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    printed, said = capfd.readouterr()
    assert printed == ""
    assert said.startswith("hotmend: ")
    assert "--help" in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "neither a bundle nor a hotpatch file"),
        (b"\x7fELF", "truncated"),
        (b"\x28\xb5\x2f\xfd rest", "bundle"),
    ],
)
def test_a_file_that_is_none_is_1_with_its_name(
    tmp_path: Path, content: bytes, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").write_bytes(content)
    assert run(["inspect", str(tmp_path / "x"), "--json"]) == 1
    printed, said = capfd.readouterr()
    error = json.loads(printed)
    assert error["error"].startswith(str(tmp_path / "x"))
    assert message in error["error"]
    assert error["error"] in said


def test_a_missing_file_is_1(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(tmp_path / "x")]) == 1
    assert "No such file" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HotmendError("it broke", "mend it"), 1),
        (InputError("it broke", "mend it"), 1),
        (FetchError("it broke", "mend it"), 1),
        (UsageError("it broke", "mend it"), 2),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("it broke"), 1),
    ],
)
def test_whatever_is_raised_becomes_a_message(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    @click.command("break")
    def broken() -> int:
        raise error

    monkeypatch.setitem(hotmend.commands, "break", broken)
    monkeypatch.delenv(main_module.DEBUG_VARIABLE, raising=False)
    assert run(["break"]) == code
    printed, said = capfd.readouterr()
    assert printed == ""
    assert said.lstrip().startswith("hotmend: ")  # after control-C the message begins on a new line
    assert "Traceback" not in said


def test_a_defect_shows_where_when_asked(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    @click.command("break")
    def broken() -> int:
        raise ZeroDivisionError

    monkeypatch.setitem(hotmend.commands, "break", broken)
    monkeypatch.setenv(main_module.DEBUG_VARIABLE, "1")
    assert run(["break"]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_a_part_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "feedgen", None)
    monkeypatch.setitem(sys.modules, "feedgen.feed", None)
    monkeypatch.delitem(sys.modules, "hotmend.reference.feeds", raising=False)
    assert run(["calendar", "--format", "atom"]) == 2
    said = capfd.readouterr().err
    assert "this Python lacks feedgen" in said
    assert "'hotmend[publisher]'" in said


@pytest.mark.parametrize(
    ("missing", "given"), [("uvicorn", ["server"]), ("sqlalchemy", ["server", "--backup", "none/b"])]
)
def test_a_server_needs_the_part_of_the_server(missing: str, given: list[str], tmp_path: Path) -> None:
    """What it shares with publishers is not a reason to install what those need beside it."""
    program = f"""
import sys
sys.modules[{missing!r}] = None
from hotmend.cli.main import run
sys.exit(run({[*given, "--state", str(tmp_path)]!r}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert f"this Python lacks {missing}" in done.stderr
    assert "'hotmend[server]'" in done.stderr


def test_no_command_needs_an_optional_part_to_be_there() -> None:
    """What the Debian package leaves out: each command's module is imported without it."""
    without = ["dbos", "feedgen", "icalendar", "jinja2", "sqlalchemy", "starlette", "azure"]
    program = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({without}))
from hotmend.cli.main import _COMMANDS
for name in _COMMANDS:
    importlib.import_module("hotmend.cli." + name.replace("-", "_"))
import hotmend.agent.turn, hotmend.agent.fetching, hotmend.agent.upgrade
"""
    subprocess.run([sys.executable, "-c", program], check=True)
