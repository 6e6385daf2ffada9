"""Peers that are measured beside hotmend: built from exactly one commit, or not measured, with what stopped it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bench.peers.measure import Seen, _beside
from bench.peers.sources import NotBuilt, Source, run, source_build


def git(folder: Path, *words: str) -> str:
    named = ("-c", "user.name=n", "-c", "user.email=n@example.org")
    return subprocess.run(
        ["git", *named, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A peer with one file, whose checkout has been changed since."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    checkout = tmp_path / "prepared" / "peer"
    checkout.mkdir(parents=True)
    git(checkout, "init", "--quiet")
    (checkout / "file").write_text("committed")
    git(checkout, "add", "file")
    git(checkout, "commit", "--quiet", "--message", "one")
    (checkout / "file").write_text("changed")
    commit = git(checkout, "rev-parse", "HEAD")
    return Source("peer", "file:///nowhere", commit, (("cp", "file", "made"),), ("a-package",))


def test_what_is_built_is_the_commit(source: Source, tmp_path: Path) -> None:
    built = source_build(source, tmp_path / "prepared")
    assert (built / "made").read_text() == "committed"
    (built / "made").write_text("kept")
    assert (source_build(source, None) / "made").read_text() == "kept"


def test_a_failed_build_says_why_and_is_tried_again(source: Source, tmp_path: Path) -> None:
    failing = replace(source, commands=(("sh", "-c", "echo some; echo 'x.c: error: no y.h'; echo more; exit 2"),))
    for _ in range(2):
        with pytest.raises(NotBuilt, match=r"exit code 2: x\.c: error: no y\.h \(it needs a-package\)"):
            source_build(failing, tmp_path / "prepared")


@pytest.mark.parametrize(
    ("commit", "folder", "said"),
    [("", "elsewhere", "no checkout"), ("0" * 40, "prepared", "git archive"), ("", None, "git fetch")],
)
def test_without_its_sources_it_is_not_built(
    source: Source, tmp_path: Path, commit: str, folder: str | None, said: str
) -> None:
    with pytest.raises(NotBuilt, match=said):
        source_build(replace(source, commit=commit or source.commit), tmp_path / folder if folder else None)


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotBuilt, match="no-such-command"):
        run(["no-such-command"], tmp_path)


def test_a_figure_that_was_not_measured_is_none() -> None:
    seen = {"hotmend": Seen(gaps=[2.0, 1.0, 3.0], codes=[0, 0, 0]), "peer": Seen(codes=[1, 1, 1])}
    ours, theirs = _beside("Pause", "ms", seen, lambda s: s.gaps)
    assert (ours.value, ours.beside) == (2.0, None)
    assert (theirs.value, theirs.note) == (None, "no try succeeded; exit codes 3 x 1")
