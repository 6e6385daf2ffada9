"""What a source package's patches touch, and which fixes a partial hotpatch holds."""

from __future__ import annotations

import io
import lzma
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotmend.model.addresses import BuildId, Extent, LinkAddress
from hotmend.model.errors import InputError
from hotmend.model.hotpatch import Hotpatch, NewFunction, Outcome, Statistics
from hotmend.model.verdict import Verdict
from hotmend.publisher.fixes import FixState, find_fixes, fixes_not_held
from hotmend.publisher.patches import Patch, parse_patch, read_patches
from tests.hotpatches import sample

_PATCH = """From: somebody
Subject: fix CVE-2026-0002

--- a/src/a.c
+++ b/src/a.c
@@ -10,6 +10,6 @@ static int first(int x)
 {
     int y = x;
-    y += 1;
+    y += 2;
     return y;
 }
 ~
@@ -30,8 +30,16 @@ static int second(int x)
     return x;
 }
 ~
+/**
+ * A new one.
+ */
+int
+third(int x)
+{
+    return x - 1;
+}
 static int
 fourth(struct thing *t, int x)
 {
-    return 1;
+    return 2;
 }
--- a/tests/test_a.c
+++ b/tests/test_a.c
@@ -1,3 +1,3 @@ int main(void)
 {
-    return 1;
+    return 0;
 }
--- a/doc/manual.txt
+++ b/doc/manual.txt
@@ -1,1 +1,1 @@ chapter(one)
-old
+new
""".replace("~", "")


def test_functions_are_those_whose_lines_change() -> None:
    patch = parse_patch("CVE-2026-0001_1.patch", _PATCH)
    assert patch == Patch(
        "CVE-2026-0001_1.patch", ("CVE-2026-0001", "CVE-2026-0002"), frozenset({"first", "third", "fourth"})
    )


@given(st.text(max_size=200))
def test_any_text_is_a_patch_or_none(text: str) -> None:
    patch = parse_patch("x.patch", text)
    assert patch is None or patch.functions == frozenset()


def _archive(path: Path, files: dict[str, str]) -> Path:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    path.write_bytes(lzma.compress(raw.getvalue()))
    return path


def test_archive_and_directory_give_the_same(tmp_path: Path) -> None:
    text = _PATCH.partition("@@ -30")[0]
    directory = tmp_path / "patches"
    directory.mkdir()
    (directory / "CVE-2026-0001.patch").write_text(text)
    (directory / "series").write_text("CVE-2026-0001.patch\n")
    archive = _archive(
        tmp_path / "x.debian.tar.xz",
        {"debian/patches/CVE-2026-0001.patch": text, "debian/patches/series": "", "debian/rules": "#!"},
    )
    assert read_patches(directory) == read_patches(archive) != ()


@pytest.mark.parametrize("data", [b"", b"not an archive", lzma.compress(b"\1" * 512)])
def test_a_damaged_archive_is_an_input_error(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.debian.tar.xz"
    path.write_bytes(data)
    with pytest.raises(InputError):
        read_patches(path)


def _outcome(held: set[str], left: set[str], same: set[str]) -> Outcome:
    nothing = Extent(LinkAddress(0), 0)
    hotpatch: Hotpatch = replace(sample(), functions=tuple(NewFunction(n, nothing, nothing) for n in sorted(held)))
    counts = Statistics(0, 0, 0, 0, (), 0, 0)
    return Outcome(
        "x", "x", BuildId("0"), BuildId("1"), Verdict.HOTPATCH_WITH_NOTES, (), counts, hotpatch,
        left=tuple(sorted(left)), same_names=frozenset(same),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("touched", "state"),
    [
        ({"in1"}, FixState.HELD),
        ({"in1", "in2"}, FixState.HELD),
        ({"in1", "same"}, FixState.HELD),
        ({"out"}, FixState.LEFT),
        ({"out", "hidden"}, FixState.LEFT),
        ({"in1", "out"}, FixState.PARTLY),
        ({"in1", "hidden"}, FixState.UNKNOWN),
        ({"hidden"}, FixState.UNKNOWN),
        ({"same"}, FixState.UNKNOWN),
        (set(), FixState.UNKNOWN),
    ],
)
def test_a_fix_is_held_only_where_all_of_it_is_known_to_go_in(touched: set[str], state: FixState) -> None:
    outcome = _outcome({"in1", "in2"}, {"out"}, {"same"})
    (fix,) = find_fixes(("CVE-2026-1",), (Patch("p", ("CVE-2026-1",), frozenset(touched)),), [outcome])
    assert fix.state is state
    notes = fixes_not_held((fix,))
    assert [r.code for r in notes] == ([] if state is FixState.HELD else ["fixes-not-held"])


def test_a_cve_without_a_patch_is_not_claimed() -> None:
    patch = Patch("p", ("CVE-2026-1",), frozenset({"in1"}))
    (fix,) = find_fixes(("CVE-2026-2",), (patch,), [_outcome({"in1"}, set(), set())])
    assert fix.state is FixState.UNKNOWN
