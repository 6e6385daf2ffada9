"""What long measurements keep between two runs of the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.kept import Kept, Stretch

FIRST = Stretch(
    server="nginx",
    began="2026-11-29T06:00:00.000+00:00",
    cycles=5,
    states={"applied": 5, "reverted": 5},
    refusals={},
    pauses={50: 9, 120: 1},
    requests=100,
    failures=0,
    ended=0,
    grown={"maps": (10, 10)},
    seconds=2.0,
    load=0.5,
)
SECOND = replace(FIRST, began="2026-11-29T07:00:00.000+00:00", cycles=7)
OTHER = replace(FIRST, server="redis")


def test_of_a_stretch_the_last_line_counts(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    kept = Kept(path)
    for stretch in (FIRST, OTHER, replace(FIRST, cycles=6, failures=2), SECOND):
        kept.add(stretch)
    for again in (kept, Kept(path)):
        assert again.of("nginx") == [replace(FIRST, cycles=6, failures=2), SECOND]
        assert again.of("redis") == [OTHER]
        assert again.of("postgres") == []


def test_without_a_file_it_is_remembered_only() -> None:
    kept = Kept(None)
    kept.add(FIRST)
    assert kept.of("nginx") == [FIRST]


def test_a_line_cut_short_by_the_end_of_the_machine_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    Kept(path).add(FIRST)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    kept = Kept(path)
    assert kept.of("nginx") == [FIRST]
    kept.add(SECOND)
    assert Kept(path).of("nginx") == [FIRST, SECOND]
