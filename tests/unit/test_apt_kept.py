"""Packages out of apt's cache: what its lists say they are, or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from hotmend.agent.apt.kept import parse_hashes, take_kept
from hotmend.publisher.feed import PackageVersion

TOOL = PackageVersion("tool", "1:1.0-3")
CONTENT = b"a package"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SHOWN = f"""\
Package: tool
Version: 1:1.0-3
SHA256: {SHA256}
Description: a tool
 SHA256: {"0" * 64}

Package: tool
Version: 1:1.0-2
SHA256: {"1" * 64}

Package: other
Version: 1:1.0-3
"""


def test_hashes() -> None:
    assert parse_hashes(SHOWN) == {("tool", "1:1.0-3"): {SHA256}, ("tool", "1:1.0-2"): {"1" * 64}}
    assert parse_hashes("") == {}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Cache and place, and an apt-cache that has lists of its own."""
    for name in ("bin", "archives", "place"):
        (tmp_path / name).mkdir()
    (tmp_path / "shown").write_text(SHOWN)
    program = tmp_path / "bin/apt-cache"
    program.write_text(f"#!/bin/sh\nexec cat {tmp_path}/shown\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return tmp_path / "archives", tmp_path / "place"


@pytest.mark.parametrize(
    ("content", "name", "taken"),
    [
        (CONTENT, "tool_1%3a1.0-3_amd64.deb", True),
        (b"another", "tool_1%3a1.0-3_amd64.deb", False),
        (CONTENT, "tool_1%3a1.0-2_amd64.deb", False),
    ],
)
def test_taken(places: tuple[Path, Path], content: bytes, name: str, *, taken: bool) -> None:
    archives, place = places
    (archives / name).write_bytes(content)
    assert take_kept([TOOL], place, archives) == (frozenset({TOOL}) if taken else frozenset())
    assert [file.name for file in place.iterdir()] == ([name] if taken else [])
