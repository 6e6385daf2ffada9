from __future__ import annotations

from pathlib import Path

import pytest

from hotmend.model.errors import FetchError
from hotmend.publisher import feed
from hotmend.publisher.feed import PackageVersion, fetch, parse_spec


@pytest.mark.parametrize(
    ("text", "package", "version"),
    [
        ("nginx=1.22.1-9+deb12u9", "nginx", "1.22.1-9+deb12u9"),
        ("redis-tools=5:7.0.15-1~deb12u7", "redis-tools", "5:7.0.15-1~deb12u7"),
        ("libssl3:amd64=3.0.20-1~deb12u2", "libssl3:amd64", "3.0.20-1~deb12u2"),
    ],
)
def test_a_package_and_version_are_recognised(text: str, package: str, version: str) -> None:
    assert parse_spec(text) == PackageVersion(package, version)


@pytest.mark.parametrize("text", ["nginx", "=1", "nginx=", "./a=b/c", "-o=1", "Nginx=1", "nginx=1 2", "a=--x y"])
def test_everything_else_is_a_file_name(text: str) -> None:
    assert parse_spec(text) is None


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in front of PATH, for our own apt; the cache is empty."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return directory


def _script(directory: Path, name: str, text: str) -> None:
    (directory / name).write_text(f"#!/bin/sh\n{text}\n")
    (directory / name).chmod(0o755)


def test_a_package_is_downloaded_once(commands: Path) -> None:
    _script(commands, "apt-get", 'echo content > "tool_5%3a1_amd64.deb"; echo >> "$0.calls"')
    first = fetch(PackageVersion("tool", "5:1"))
    assert first.read_text() == "content\n"
    assert fetch(PackageVersion("tool", "5:1")) == first
    assert (commands / "apt-get.calls").read_text() == "\n"
    assert [path.name for path in first.parent.iterdir()] == ["tool_5%3a1_amd64.deb"]


def test_an_unknown_version_names_those_on_offer(commands: Path) -> None:
    _script(commands, "apt-get", "echo \"E: Version '9' for 'tool' was not found\" >&2; exit 100")
    _script(commands, "apt-cache", "echo 'tool | 1.2 | http://x y Packages'; echo 'tool | 1.1 | http://x y Packages'")
    with pytest.raises(FetchError, match=r"apt does not offer tool=9; it offers 1\.2, 1\.1") as caught:
        fetch(PackageVersion("tool", "9"))
    assert "apt-get update" in caught.value.hint


def test_an_unknown_package_is_named(commands: Path) -> None:
    _script(commands, "apt-get", "exit 100")
    _script(commands, "apt-cache", "exit 0")
    with pytest.raises(FetchError, match="knows no package tool"):
        fetch(PackageVersion("tool", "9"))


def test_what_apt_complains_about_is_passed_on(commands: Path) -> None:
    _script(commands, "apt-get", "echo 'E: Failed to fetch: 404 Not Found' >&2; exit 100")
    _script(commands, "apt-cache", "echo 'tool | 9 | http://x y Packages'")
    with pytest.raises(FetchError, match="404 Not Found"):
        fetch(PackageVersion("tool", "9"))


def test_a_machine_without_apt_is_told_what_else_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(FetchError, match="apt-get is not installed"):
        fetch(PackageVersion("tool", "9"))


@pytest.mark.archive
def test_the_archive_offers_versions() -> None:
    assert feed.offered_versions("bash")
    assert feed.offered_versions("no-such-package-anywhere") == ()
