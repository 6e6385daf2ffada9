"""What is left of the memory of a control group, in trees of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotmend.linux import memory_group, procfs


def group(place: Path, **files: str) -> None:
    """Make a group; a double underscore in a name is a dot."""
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (place / name.replace("__", ".")).write_text(text + "\n")


def objection(monkeypatch: pytest.MonkeyPatch, root: Path, groups: str, wanted: int) -> str:
    monkeypatch.setattr(memory_group, "ROOT", root)
    monkeypatch.setattr(procfs, "read_text", lambda *_: groups)
    return memory_group.memory_group_objection(1, wanted)


def test_version_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The group above has the limit; pages of files are given back, those in use by half."""
    group(tmp_path / "a.slice", memory__max="1000", memory__current="900")
    group(tmp_path / "a.slice/b.service", memory__max="max", memory__current="800")
    (tmp_path / "a.slice/memory.stat").write_text("anon 700\ninactive_file 50\nactive_file 60\n")
    assert objection(monkeypatch, tmp_path, "0::/a.slice/b.service\n", 180) == ""
    assert "a.slice of process 1 may have 1000" in objection(monkeypatch, tmp_path, "0::/a.slice/b.service\n", 181)


def test_version_1_beside_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group(tmp_path / "memory/a", memory__limit_in_bytes="1000", memory__usage_in_bytes="900")
    (tmp_path / "memory/a/memory.stat").write_text("inactive_file 500\ntotal_inactive_file 50\n")
    groups = "4:memory:/a\n1:cpu:/a\n0::/\n"
    assert objection(monkeypatch, tmp_path, groups, 150) == ""
    assert "memory/a" in objection(monkeypatch, tmp_path, groups, 151)


@pytest.mark.parametrize("groups", ["0::/../other\n", "0::/nowhere\n", "", "1:name=systemd:/a\n"])
def test_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str) -> None:
    assert objection(monkeypatch, tmp_path, groups, 1 << 40) == ""
