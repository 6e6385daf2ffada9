from __future__ import annotations

from hotmend.image.deb import ElfFile
from hotmend.publisher.pairing import FileState, pair_files


def _files(**contents: str) -> list[ElfFile]:
    return [ElfFile(path, text.encode()) for path, text in contents.items()]


def _pairs(old: dict[str, str], new: dict[str, str]) -> list[tuple[str, str, FileState]]:
    pairs = pair_files(_files(**old), _files(**new))
    return [(p.old.path if p.old else "", p.new.path if p.new else "", p.state) for p in pairs]


def test_equal_paths_are_pairs() -> None:
    assert _pairs({"bin/a": "1", "bin/b": "1"}, {"bin/a": "1", "bin/b": "2"}) == [
        ("bin/a", "bin/a", FileState.IDENTICAL),
        ("bin/b", "bin/b", FileState.CHANGED),
    ]


def test_what_is_on_one_side_only_was_added_or_removed() -> None:
    assert _pairs({"bin/gone": "1"}, {"bin/came": "1"}) == [
        ("", "bin/came", FileState.ADDED),
        ("bin/gone", "", FileState.REMOVED),
    ]


def test_a_library_with_another_version_in_its_name_is_the_same_library() -> None:
    assert _pairs({"lib/libx.so.1.2.3": "1"}, {"lib/libx.so.1.2.4": "2"}) == [
        ("lib/libx.so.1.2.3", "lib/libx.so.1.2.4", FileState.CHANGED)
    ]


def test_a_version_in_the_directory_does_not_matter() -> None:
    assert _pairs({"lib/tool-1.2/plugin.so": "1"}, {"lib/tool-1.3/plugin.so": "1"}) == [
        ("lib/tool-1.2/plugin.so", "lib/tool-1.3/plugin.so", FileState.IDENTICAL)
    ]


def test_names_that_are_not_unique_pair_by_their_path_without_numbers_or_not_at_all() -> None:
    old = {"lib/v1.0/a/m.so": "1", "lib/v1.0/b/m.so": "2"}
    new = {"lib/v1.1/a/m.so": "1", "lib/v1.1/b/m.so": "2"}
    assert [state for _, _, state in _pairs(old, new)] == [FileState.IDENTICAL, FileState.IDENTICAL]
    moved = {"x/m.so": "1", "y/m.so": "2"}
    assert {state for _, _, state in _pairs(old, moved)} == {FileState.ADDED, FileState.REMOVED}
