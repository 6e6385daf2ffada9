"""All texts that people may see, collected from source and data: what a translation must have."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from hotmend.model import errors
from hotmend.model.verdict import Verdict
from hotmend.servicing.enrollment import State
from hotmend.servicing.forecast import Need
from hotmend.servicing.install import Outcome
from hotmend.servicing.releases import Kind, Line
from hotmend.servicing.selection import Deed
from hotmend.windows import action
from hotmend.windows.perform import Standing
from hotmend.windows.updates import Result

SOURCE = Path(__file__).parents[2] / "src" / "hotmend"
_KEYWORDS = {"message": 0, "cause": 1, "N_": 0, "say": 0, "refusal": 1, "note": 1}
"""Function to the place of its text among the arguments. Of errors it is message and hint."""
_FIELDS = {
    "products.toml": {"not_supported"},
    "remedies.toml": {"title", "risk", "restart", "verify"},
    "known_issues.toml": {"title", "cost"},
}
_WORDS = {"note", "high", "medium", "low", "off-peak hours", *Deed, *State, *Outcome, *Line, *Kind, *Need, *Result}
_RELEASES = {"security", "non-security", "unknown", "critical", *Verdict}
"""What releases of a channel may say of themselves."""
_ACTIONS = {"uninstall", "absent", *get_args(action.State), *Standing}
_CLI = (
    "check.py",
    "check_shapes.py",
    "calendar.py",
    "windows_updates.py",
    "windows_history.py",
    "windows_policy.py",
    "windows_remedies.py",
    "arc.py",
    "menu.py",
    "errors.py",
    "output.py",
)
_ARC = ("connector.py", "line.py", "machine.py")
"""The other files there are a service's, which answers programs."""


def texts() -> set[str]:
    """Return every text that has a translation."""
    found = set(map(str, _WORDS | _RELEASES)) | _ACTIONS
    for path in sources():
        found.update(_marked(path))
    for template in (SOURCE / "reference").glob("*.j2"):
        found.update(re.findall(r'say\("([^"]+)"\)', template.read_text()))
    products = tomllib.loads((SOURCE / "reference" / "data" / "products.toml").read_text())["product"]
    found.update(product["name"] for product in products)
    for name, fields in _FIELDS.items():
        found.update(_strings(tomllib.loads((SOURCE / "reference" / "data" / name).read_text()), fields))
    return found - {""}


def sources() -> Iterator[Path]:
    """Yield the files whose texts are translated."""
    for folder in ("servicing", "reference", "windows"):
        yield from (SOURCE / folder).glob("*.py")
    yield from (SOURCE / "cli" / name for name in _CLI)
    yield from (SOURCE / "arc" / name for name in _ARC)


def untranslatable(path: Path) -> Iterator[str]:
    """Yield errors of a file whose message or hint is put together before anybody can translate it."""
    for call, text in _texts(path):
        if isinstance(text, ast.JoinedStr | ast.BinOp):
            yield f"{path.name}:{call.lineno}"


def _marked(path: Path) -> Iterator[str]:
    for _, text in _texts(path):
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            yield text.value


def _texts(path: Path) -> Iterator[tuple[ast.Call, ast.expr]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield from ((node, node.args[place]) for place in _places(node.func) if len(node.args) > place)


def _places(function: ast.expr) -> tuple[int, ...]:
    if isinstance(function, ast.Attribute):  # of a reader, not of a value in the registry
        return (0,) if function.attr == "text" and getattr(function.value, "id", "") != "Value" else ()
    name = getattr(function, "id", "")
    if name.endswith("Error") and name in vars(errors):
        return (0, 1)
    return (_KEYWORDS[name],) if name in _KEYWORDS else ()


def _strings(value: object, fields: set[str]) -> Iterator[str]:
    match value:
        case dict():
            for name, each in value.items():
                if name in fields and isinstance(each, str):
                    yield each
                yield from _strings(each, fields)
        case list():
            for each in value:
                yield from _strings(each, fields)
