"""All texts that people may see, collected from source and data: what a translation must have."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

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
"""Function to the place of its text among the arguments."""
_FIELDS = {
    "products.toml": {"not_supported"},
    "remedies.toml": {"title", "risk", "restart", "verify"},
    "known_issues.toml": {"title", "cost"},
}
_WORDS = {"high", "medium", "low", "off-peak hours", *Deed, *State, *Outcome, *Line, *Kind, *Need, *Result}
_RELEASES = {"security", "non-security", "unknown", "critical", *Verdict}
"""What releases of a channel may say of themselves."""
_ACTIONS = {"uninstall", "absent", *get_args(action.State), *Standing}
_CLI = (
    "check.py",
    "check_shapes.py",
    "calendar.py",
    "windows_updates.py",
    "windows_history.py",
    "windows_remedies.py",
    "arc.py",
    "menu.py",
)
_WINDOWS = ("assess.py", "work.py", "rollback.py", "policy.py", "perform.py", "prepare.py")


def texts() -> set[str]:
    """Return every text that has a translation."""
    found = set(map(str, _WORDS | _RELEASES)) | _ACTIONS
    for path in [*(SOURCE / "servicing").glob("*.py"), *(SOURCE / "reference").glob("*.py"), *_cli()]:
        found.update(_marked(path))
    for template in (SOURCE / "reference").glob("*.j2"):
        found.update(re.findall(r'say\("([^"]+)"\)', template.read_text()))
    products = tomllib.loads((SOURCE / "reference" / "data" / "products.toml").read_text())["product"]
    found.update(product["name"] for product in products)
    for name, fields in _FIELDS.items():
        found.update(_strings(tomllib.loads((SOURCE / "reference" / "data" / name).read_text()), fields))
    return found - {""}


def _cli() -> Iterator[Path]:
    yield from (path for name in _CLI if (path := SOURCE / "cli" / name).exists())
    yield from (SOURCE / "windows" / name for name in _WINDOWS)


def _marked(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        place = 0 if getattr(node.func, "attr", "") == "text" else _KEYWORDS.get(getattr(node.func, "id", ""))
        if place is not None and len(node.args) > place:
            text = node.args[place]
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield text.value


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
