"""What a person types: `hotmend fleet ...` against a server of the test."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hotmend.cli.main import run
from tests.server.running import Running


class Typed:
    """`hotmend fleet ...` as an administrator."""

    def __init__(self, server: Running, capture: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capture = capture
        monkeypatch.setenv("HOTMEND_SERVER", server.url)
        monkeypatch.setenv("HOTMEND_TOKEN", server.tokens["admin"])

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Return what is on stdout."""
        return self._run(arguments, code)[0]

    def error(self, *arguments: str, code: int) -> str:
        """Return what is on stderr."""
        return self._run(arguments, code)[1]

    def rows(self, *arguments: str) -> list[Any]:
        """Return what is on stdout with --json, a value for each line."""
        return [msgspec.json.decode(line) for line in self("--json", *arguments).splitlines()]

    def _run(self, arguments: tuple[str, ...], code: int) -> tuple[str, str]:
        assert run(["fleet", *arguments]) == code, arguments
        said = self._capture.readouterr()
        return said.out, said.err
