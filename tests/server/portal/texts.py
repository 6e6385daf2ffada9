"""All texts of the portal, collected from its templates and pages: what a translation must have."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

SERVER = Path(__file__).parents[3] / "src" / "hotmend" / "server"
_MARKED = {"N_": 0, "say": 0, "message": 0, "cause": 1}


def texts() -> set[str]:
    """Return every text that the portal says by itself."""
    found: set[str] = set()
    for template in (SERVER / "portal" / "templates").glob("*.j2"):
        found.update(re.findall(r"\bt\(\s*\"([^\"]+)\"", template.read_text()))
        found.update(re.findall(r"\bt\(\s*'([^']+)'", template.read_text()))
    for path in SERVER.rglob("*.py"):
        found.update(_marked(path))
    return found


def _marked(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        place = _MARKED.get(name, len(node.args))
        if place < len(node.args):
            text = node.args[place]
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield text.value


def problem_codes() -> Iterator[str]:
    """Yield the code of every problem that the server raises by name."""
    places = {"Problem": 1, "conflict": 0, "unprocessable": 0}
    for path in SERVER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in places:
                place = places[node.func.id]
                code = node.args[place] if place < len(node.args) else None
                if isinstance(code, ast.Constant) and isinstance(code.value, str):
                    yield code.value
