"""What docs/ says of the servicing rules is what they are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from hotmend.cli import check_shapes
from hotmend.cli.calendar import CalendarShape
from hotmend.servicing import actions, rollouts
from hotmend.servicing.enrollment import diagram
from hotmend.servicing.prerequisites import CHECKS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "servicing.md").read_text()
COMMANDS = (ROOT / "docs" / "commands.md").read_text()


def _codes() -> Iterator[str]:
    for path in (ROOT / "src" / "hotmend" / "servicing").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in {"cause", "Cause"}:
                continue
            if node.args and isinstance(node.args[0], ast.Constant):
                yield str(node.args[0].value)


def test_every_code_is_explained() -> None:
    codes = set(_codes())
    assert len(codes) > 40
    assert {code for code in codes | CHECKS.keys() if f"`{code}`" not in PAGE} == set()


def test_the_diagrams_are_the_tables() -> None:
    drawn = [found.strip() for found in re.findall(r"```mermaid\n(.*?)```", PAGE, re.DOTALL)]
    for made in (diagram(), actions.diagram(), rollouts.diagram(), rollouts.group_diagram()):
        assert made in drawn


def test_every_field_is_described() -> None:
    shapes = [each for each in vars(check_shapes).values() if getattr(each, "__module__", "") == check_shapes.__name__]
    shapes = [each for each in shapes if isinstance(each, type) and issubclass(each, msgspec.Struct)]
    for name, shape in (("check", shapes), ("calendar", [CalendarShape])):
        section = COMMANDS[COMMANDS.index(f"## `hotmend {name}") :].split("\n## ")[0]
        fields = {field for each in shape for field in each.__struct_fields__}
        assert {field for field in fields if f"`{field}`" not in section} == set()
