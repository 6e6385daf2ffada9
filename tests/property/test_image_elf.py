"""No bytes make the reader or the comparison do worse than an InputError, or take more than a moment."""

from __future__ import annotations

import struct
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotmend.diff.pipeline import compare
from hotmend.image.elf import read_image
from hotmend.image.image import Image
from hotmend.image.references import Survey, survey
from hotmend.model.errors import InputError
from hotmend.model.verdict import Verdict
from tests.unit.elf_maker import DATA, TEXT, Library

_SOURCE = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int calls;
static const char *const names[] = {"zero", "one", "two"};
__thread int mine = 3;
__attribute__((noinline)) static int weight(const char *t) { return (int)strlen(t) * 3 + calls; }
int look(int n) { calls++; CHECK printf("%s\\n", names[n]); return weight(names[n]) + mine; }
int pick(int n)
{
    switch (n) {
    case 0: return weight("a");
    case 1: return weight("bcd") * 2;
    case 2: return calls;
    case 3: return look(2);
    case 4: puts("four"); return 4;
    case 5: return n * look(1);
    }
    return 0;
}
int total(void) { int s = 0; for (int i = 0; i < 3; i++) s += look(i) * pick(i); return s; }
void *grow(int n) { void *p = malloc(40); if (p) memset(p, n, 40); return p; }
int (*const table[])(int) = {look, pick};
int main(int count, char **words) { return total() + count; }
"""
_SECONDS_MAX = 20
_NUMBERS = [0, 1, 2, 0x7F, 0xFF, 0x1000, 0xFFFF, 1 << 24, 1 << 31, (1 << 32) - 1, (1 << 63) - 1, (1 << 64) - 1]
_QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


class Pair:
    """An old image, and the bytes of its new build with the places where a change hurts most."""

    def __init__(self, folder: Path, kind: str, options: list[str]) -> None:
        for label, check in (("old", ""), ("new", "if (n < 0 || n > 2) return -1;")):
            source = folder / f"{label}.c"
            source.write_text(_SOURCE.replace("CHECK", check))
            command: list[str | Path] = [
                "gcc",
                "-O2",
                "-w",
                "-Wl,--build-id",
                *options,
                "-o",
                folder / f"{label}.{kind}",
                source,
            ]
            subprocess.run(command, check=True)
        self.data = (folder / f"new.{kind}").read_bytes()
        self.old = read_image(folder / f"old.{kind}")
        table = int.from_bytes(self.data[40:48], "little")
        parts = [(0, 64), (64, 56 * 13), (table, len(self.data) - table)]
        parts += [(s.offset, s.size) for s in read_image(self.data).sections if s.size and s.kind != "SHT_NOBITS"]
        self.parts = parts


@pytest.fixture(scope="module", params=["library", "fixed"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    options = {"library": ["-fPIC", "-shared", "-s"], "fixed": ["-no-pie"]}[request.param]
    return Pair(tmp_path_factory.mktemp(request.param), request.param, options)


def _image_or_refusal(data: bytes) -> Image | None:
    try:
        return read_image(data, "mutated")
    except InputError as error:
        assert str(error)
        return None


def _mutate(data: st.DataObject, pair: Pair) -> bytes:
    blob = bytearray(pair.data)
    for _ in range(data.draw(st.integers(1, 3))):
        start, size = data.draw(st.sampled_from(pair.parts))
        width = data.draw(st.sampled_from([1, 2, 4, 8]))
        at = start + data.draw(st.integers(0, size - 1)) // width * width
        number = data.draw(st.sampled_from([*_NUMBERS, len(blob)]) | st.integers(0, (1 << 64) - 1))
        blob[at : at + width] = (number & (1 << 8 * width) - 1).to_bytes(width, "little")
    return bytes(blob[: len(pair.data)])


def _same_when_copied(like: Survey, image: Image, decoded: Survey) -> None:
    """What is taken over from another build is what decoding gives."""
    copied = survey(image, like)
    assert (copied.codes, copied.keys, copied.invalid) == (decoded.codes, decoded.keys, decoded.invalid)
    for name in ("owner", "field", "width", "kind", "target", "tail", "access", "first"):
        assert np.array_equal(getattr(copied.references, name), getattr(decoded.references, name)), name


def test_the_pair_itself_is_read_and_compared(pair: Pair) -> None:
    """Without this the properties below could hold because everything is refused."""
    outcome = compare(pair.old, read_image(pair.data))
    assert outcome.verdict in (Verdict.HOTPATCH, Verdict.HOTPATCH_WITH_NOTES), outcome.reasons
    assert outcome.statistics.changed == 1


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=_QUIET)
def test_changed_bytes_never_do_worse_than_an_input_error(pair: Pair, data: st.DataObject) -> None:
    blob = _mutate(data, pair)
    started = time.monotonic()
    image = _image_or_refusal(blob)
    if image is not None:
        found = survey(image)
        assert len(found.keys) == len(found.codes)
        _same_when_copied(survey(pair.old), image, found)
        for old, new in ((pair.old, image), (image, pair.old)):
            outcome = compare(old, new)
            assert (outcome.hotpatch is None) == (outcome.verdict in (Verdict.NO_CHANGE, Verdict.BASELINE_REQUIRED))
    assert time.monotonic() - started < _SECONDS_MAX


@pytest.mark.parametrize("step", [61])
def test_truncations_are_refused_or_read(pair: Pair, step: int) -> None:
    """The section headers stand last: without the end of the file there is no image."""
    for size in range(0, len(pair.data), step):
        with pytest.raises(InputError):
            read_image(pair.data[:size], "truncated")


@given(st.binary(max_size=400))
@settings(max_examples=150, deadline=None)
def test_noise_is_refused(noise: bytes) -> None:
    for head in (b"", b"\x7fELF", Library().but()[:64], Library().but()[:0x600]):
        assert _image_or_refusal(head + noise) is None


@given(text=st.binary(min_size=1, max_size=300), data=st.binary(min_size=8, max_size=200), words=st.data())
@settings(max_examples=150, deadline=None)
def test_any_code_and_data_can_be_compared(text: bytes, data: bytes, words: st.DataObject) -> None:
    """Code that no compiler makes: every byte string, cut into functions anywhere, pointed to from anywhere."""
    cuts = sorted(words.draw(st.sets(st.integers(1, len(text)), max_size=6)))
    starts = [0, *cuts]
    functions = [(TEXT + a, b - a) for a, b in zip(starts, cuts, strict=False)]
    places = words.draw(st.lists(st.integers(0, len(data) - 8), max_size=5, unique=True))
    target = st.integers(0, 0x2FFF)
    relocations = [(DATA + p, 8, 0, words.draw(target)) for p in places]
    old = read_image(Library(text=text, data=data, functions=functions, relocations=relocations, exports={}).but())
    changed = bytearray(text)
    at = words.draw(st.integers(0, len(text) - 1))
    changed[at] ^= words.draw(st.integers(1, 255))
    other = Library(text=bytes(changed), data=data, functions=functions, relocations=relocations[1:], exports={})
    new = read_image(other.but())
    assert old.build_id == new.build_id
    for before, after in ((old, new), (new, old)):
        _same_when_copied(survey(before), after, survey(after))
        outcome = compare(before, after)
        assert outcome.verdict in Verdict
        if outcome.hotpatch is not None:
            for r in outcome.hotpatch.relocations:
                assert any(r.address in s.extent for s in outcome.hotpatch.segments), "a field outside of the shadow"


@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_packed_relocations_lie_in_the_image_or_are_refused(words: list[int]) -> None:
    image = _image_or_refusal(Library(relr=words).but())
    if image is not None:
        assert all(0 <= a <= 0x3000 - 8 for a in image.relocations.relr.tolist())
        assert len(image.relocations.relr) == sum(w.bit_count() - 1 if w & 1 else 1 for w in words)
    first, *rest = struct.unpack_from(f"<{len(words)}Q", Library(relr=words).but(), 0x700)
    assert [first, *rest] == words
