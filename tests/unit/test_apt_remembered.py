"""apt's answer is kept while nothing changes, and is asked for anew when one of its inputs does: with apt itself."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from hotmend.agent.apt.pending import Pending, pending_updates
from hotmend.agent.apt.remembered import AGE_MAX, remembered

_INSTALLED = """Package: {name}
Status: {wish} ok installed
Maintainer: Nobody <nobody@example.org>
Architecture: amd64
Version: {version}
Description: of the tests

"""
_OFFERED = """Package: {name}
Maintainer: Nobody <nobody@example.org>
Architecture: amd64
Version: {version}
Filename: ./{name}.deb
Size: 1
SHA256: {hash}
Description: of the tests

"""


class Apt:
    """An apt with a state of its own: `one` and `two` are installed at 1, and 2 is offered."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.memory = folder, folder / "simulation.json"
        for place in ("etc/apt.conf.d", "etc/preferences.d", "lists/partial", "archives/partial", "offered"):
            (folder / place).mkdir(parents=True)
        (folder / "apt.conf").write_text(
            f'Dir::Etc "{folder}/etc"; Dir::State::lists "{folder}/lists"; Dir::State::status "{folder}/status";'
            f'Dir::State::extended_states "{folder}/extended_states"; Dir::Cache "{folder}";'
            'APT::Architecture "amd64"; APT::Sandbox::User "root";'
        )
        (folder / "etc/sources.list").write_text(f"deb [trusted=yes] file:{folder}/offered ./\n")
        self.install("install")
        self.offer("2")

    def install(self, wish: str, version: str = "1") -> None:
        rows = (_INSTALLED.format(name=name, wish=wish, version=version) for name in ("one", "two"))
        (self.folder / "status").write_text("".join(rows))

    def offer(self, version: str) -> None:
        rows = (_OFFERED.format(name=name, version=version, hash="0" * 64) for name in ("one", "two"))
        (self.folder / "offered/Packages").write_text("".join(rows))
        subprocess.run(["apt-get", "-qq", "update"], check=True, capture_output=True)

    def waiting(self) -> dict[str, str]:
        """Return what waits, by its memory; asked afresh it must be the same."""
        found = pending_updates(every=True, memory=self.memory)
        assert found == pending_updates(every=True)
        return versions(found)


def versions(pending: tuple[Pending, ...]) -> dict[str, str]:
    return {one.package: one.new_version for one in pending}


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Apt:
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    return Apt(tmp_path)


def test_an_answer_is_kept(apt: Apt) -> None:
    assert apt.waiting() == {"one": "2", "two": "2"}
    apt.memory.write_bytes(apt.memory.read_bytes().replace(b"Inst one", b"Inst ten"))
    assert "ten" in versions(pending_updates(every=True, memory=apt.memory))  # apt itself was not asked


# Each changes a file's size as well: apt's own cache tells times by the second.
_CHANGES: dict[str, tuple[Callable[[Apt], None], dict[str, str]]] = {
    "lists": (lambda apt: apt.offer("3.0"), {"one": "3.0", "two": "3.0"}),
    "a hold": (lambda apt: apt.install("hold"), {}),
    "an installation": (lambda apt: apt.install("install", "2.0"), {}),
    "a pin": (lambda apt: pin(apt, "Package: two\nPin: version *\nPin-Priority: -1\n"), {"one": "2"}),
    "no source": (lambda apt: (apt.folder / "etc/sources.list").unlink(), {}),
    "no lists": (lambda apt: lose(apt.folder.glob("lists/_*")), {}),
}


def pin(apt: Apt, text: str) -> None:
    (apt.folder / "etc/preferences.d/pin").write_text(text)


def lose(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink()


@pytest.mark.parametrize("change", _CHANGES)
def test_apt_is_asked_anew_after(apt: Apt, change: str) -> None:
    apt.waiting()
    make, expected = _CHANGES[change]
    make(apt)
    assert apt.waiting() == expected


def test_its_configuration_counts_wherever_it_comes_from(
    apt: Apt, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    apt.waiting()
    other = tmp_path / "other.conf"
    other.write_text((tmp_path / "apt.conf").read_text() + 'APT::Default-Release "now";')
    monkeypatch.setenv("APT_CONFIG", str(other))
    assert apt.waiting() == {}


def test_what_is_behind_a_link_or_elsewhere_counts_too(apt: Apt, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (apt.folder / "etc/preferences.d").rename(other)
    (apt.folder / "etc/preferences.d").symlink_to(other)
    apt.waiting()
    pin(apt, "Package: two\nPin: version *\nPin-Priority: -1\n")
    assert apt.waiting() == {"one": "2"}
    parts = tmp_path / "parts"
    parts.mkdir()
    with (tmp_path / "apt.conf").open("a") as file:
        file.write(f'Dir::Etc::preferencesparts "{parts}";')
    assert apt.waiting() == {"one": "2", "two": "2"}
    (parts / "pin").write_text("Package: one\nPin: version *\nPin-Priority: -1\n")
    assert apt.waiting() == {"two": "2"}


def test_an_answer_is_not_kept_for_ever(tmp_path: Path) -> None:
    asked: list[int] = []

    def ask() -> str:
        asked.append(1)
        return f"answer {len(asked)}"

    file, now = tmp_path / "state/answer.json", datetime(2026, 11, 30, 12, tzinfo=UTC)
    hour = timedelta(hours=1)
    assert remembered(file, ask, now) == remembered(file, ask, now + AGE_MAX - hour) == "answer 1"
    assert remembered(file, ask, now + AGE_MAX) == "answer 2"
    assert remembered(file, ask, now + AGE_MAX - hour) == "answer 3"  # the clock was put back


@pytest.mark.parametrize("content", [b"", b"{", b'{"inputs": 1}', b"\xff", None])
def test_what_cannot_be_read_is_asked_for(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "answer.json"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    assert remembered(file, lambda: "said") == "said"


def test_without_apt_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, answers = tmp_path / "answer.json", iter(["first", "second"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [remembered(file, lambda: next(answers)) for _ in range(2)] == ["first", "second"]


def test_nobody_else_reads_what_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "state/answer.json"
    remembered(file, lambda: "said")
    assert msgspec.json.decode(file.read_bytes())["text"] == "said"
    assert file.parent.stat().st_mode & 0o007 == 0
