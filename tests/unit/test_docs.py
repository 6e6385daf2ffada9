"""Docs are tests: every command, option, field of --json and reason has its place."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

from hotmend import cli
from hotmend.cli import publish_shapes
from hotmend.cli.main import hotmend
from hotmend.diff.options import ACCEPTABLE

ROOT = Path(__file__).parents[2]
COMMANDS = (ROOT / "docs" / "commands.md").read_text()
REASONS = (ROOT / "docs" / "reasons.md").read_text()


def _codes() -> Iterator[tuple[str, str]]:
    """Each code that the source gives to `refusal`, `note`, or a helper of its own whose name says so; and which."""
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            first = node.args[0]
            gives = re.fullmatch(r"_?(refus(e|ed|al)|note)", name)
            if gives and isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value, "Note" if name.strip("_") == "note" else "Refusal"


def _headings(text: str) -> set[str]:
    return {match.strip("` ") for match in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


def test_every_reason_has_a_heading() -> None:
    codes = {code for code, _ in _codes()}
    assert codes
    assert codes - _headings(REASONS) == set()


def test_the_text_of_a_reason_says_whether_it_is_a_refusal_or_a_note() -> None:
    first_words = dict(re.findall(r"^### (\S+)\n(\w+)", REASONS, re.MULTILINE))
    both = {code for code, word in _codes() if word == "Note"} & {code for code, word in _codes() if word == "Refusal"}
    assert {(code, word) for code, word in _codes() if code not in both and first_words.get(code) != word} == set()


def test_the_reasons_that_can_be_accepted_are_listed() -> None:
    section = COMMANDS[COMMANDS.index("`--accept CODE`") :].split("\n* ")[0]
    assert {code for code in _headings(REASONS) if f"`{code}`" in section} == ACCEPTABLE


def test_every_code_is_kebab_case() -> None:
    assert [code for code, _ in _codes() if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code)] == []


_CONTEXT = click.Context(hotmend)


@pytest.mark.parametrize("name", hotmend.list_commands(_CONTEXT))
def test_every_command_and_option_is_described(name: str) -> None:
    heading = re.search(rf"^## .*`hotmend {name}[ `].*$", COMMANDS, re.MULTILINE)
    assert heading
    section = COMMANDS[heading.start() :].split("\n## ")[0]
    command = hotmend.get_command(_CONTEXT, name)
    assert command is not None
    _check_described(command, name, section)


def _check_described(command: click.Command, name: str, section: str) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            for option in parameter.opts:
                assert f"`{option}" in section, option
    if isinstance(command, click.Group):
        for inner in command.list_commands(_CONTEXT):
            assert re.search(rf"`(hotmend )?{name} {inner}[ `]", section), inner
            found = command.get_command(_CONTEXT, inner)
            assert found is not None
            _check_described(found, f"{name} {inner}", section)


def test_every_field_of_the_json_is_described() -> None:
    missing = []
    names = [file.stem for file in Path(cli.__path__[0]).glob("*shapes.py")]
    modules = [importlib.import_module(f"hotmend.cli.{name}") for name in names]
    for name, shape in (item for module in modules for item in vars(module).items()):
        if isinstance(shape, type) and issubclass(shape, msgspec.Struct) and shape.__module__.endswith("shapes"):
            missing += [
                f"{name}.{field}"
                for field in shape.__struct_fields__
                if f"`{field}`" not in COMMANDS and f"[].{field}`" not in COMMANDS
            ]
    section = COMMANDS[COMMANDS.index("## `hotmend survey") :].split("\n## ")[0]
    for shape in publish_shapes.SURVEY_SHAPES:
        missing += [f"{shape.__name__}.{field}" for field in shape.__struct_fields__ if f"`{field}`" not in section]
    assert missing == []


def test_links_between_documents_lead_somewhere() -> None:
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
