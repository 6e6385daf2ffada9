"""Rules of the source that no other tool checks."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "hotmend"


def _of_subjects(*names: str) -> set[str]:
    """Files of these names in the server's folders."""
    found = (path for name in names for path in (SOURCE / "server").rglob(f"{name}.py"))
    return {str(path.relative_to(SOURCE)) for path in found}


_PORTAL = {str(path.relative_to(SOURCE)) for path in (SOURCE / "server" / "portal").glob("*.py")}

_ONE_GATEWAY = {
    "cydifflib": {"diff/align.py", "diff/pair.py"},
    "ctypes": {
        "linux/sys.py",
        "linux/unwind.py",
        "linux/window.py",
        "linux/libdw.py",
        "linux/namespaces.py",
        "linux/foreign.py",
        "windows/winapi.py",
    },
    "winreg": {"windows/winapi.py"},
    "win32service": {"windows/winapi.py"},
    "win32com": {"windows/com.py"},
    "pythoncom": {"windows/com.py"},
    "elftools": {"image/elf.py", "image/debugfile.py"},
    "iced_x86": {
        f"image/{name}.py"
        for name in (
            "arguments",
            "body",
            "code",
            "entry",
            "escape",
            "flow",
            "fills",
            "forms",
            "handed",
            "influence",
            "heads",
            "lines",
            "words",
            "loops",
            "moved",
            "multiples",
            "reading",
            "references",
            "results",
            "values",
            "ways",
            "writes",
        )
    },
    "debian": {"image/deb.py", "publisher/survey/suites.py"},
    "cryptography": {"repository/keys.py", "wire/evidence.py", "wire/keys.py"},
    "nacl": {"server/machines/quick_key.py"},
    "urllib3": {"repository/fetchers.py", "agent/health/probes.py", "agent/uplink/carrying.py", "fleet/client.py"}
    | {"server/webhooks/posting.py"},
    "h11": {"server/webhooks/posting.py"},
    "tuf": {
        f"repository/{name}.py"
        for name in (
            "bundles",
            "client",
            "deltas",
            "fetchers",
            "keeping",
            "metadata",
            "publication",
            "publish",
            "requests",
            "signing",
            "state",
            "targets",
            "tiers",
            "waiting",
        )
    },
    "securesystemslib": {f"repository/{name}.py" for name in ("keys", "metadata", "publish", "requests", "signing")}
    | {"wire/evidence.py"},
    "dbos": {"durable/queue.py"},
    "sqlalchemy": {"durable/liveness.py"} | _of_subjects("*"),
    "alembic": {"server/database.py", "server/migrations/env.py"} | _of_subjects("[0-9]*"),
    "fastapi": {"server/app.py", "server/problem.py"} | _of_subjects("api", "pages", "*_pages") | _PORTAL,
    "uvicorn": {"cli/server.py"},
    "jinja2": {"publisher/survey/page.py", "reference/feeds.py"} | _PORTAL,
    "feedgen": {"reference/feeds.py"},
    "icalendar": {"reference/feeds.py"},
    "babel": {"reference/texts.py", "reference/zones.py"} | _PORTAL,
    "azure": {"arc/connector.py"},
    "starlette": {"arc/routes.py", *(f"server/{name}.py" for name in ("app", "context", "problem", "identity/access"))}
    | _of_subjects("api", "pages", "*_pages", "door")
    | _PORTAL,
    "dateutil": {"servicing/releases.py", "servicing/maintenance.py"},
}
"""Library -> the only files that may use it."""


def _modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


@functools.cache
def _imports(path: Path) -> frozenset[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return frozenset(found)


@pytest.mark.parametrize("library", _ONE_GATEWAY)
def test_each_library_has_one_gateway(library: str) -> None:
    users = {str(path.relative_to(SOURCE)) for path in _modules() if library in _imports(path)}
    assert users <= _ONE_GATEWAY[library]


def test_the_model_uses_the_standard_library_only() -> None:
    for path in (SOURCE / "model").glob("*.py"):
        assert set(_imports(path)) <= {"__future__", "collections", "dataclasses", "enum", "typing", "hotmend"}


def test_functions_fit_a_screen() -> None:
    long = []
    for path in _modules():
        if path.parent.name == "versions":  # steps of the server's schema: lists of columns
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 80:
                long.append(f"{path}: {node.name}")
    assert not long
