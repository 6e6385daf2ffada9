"""`hotmend verify` on stock libraries and the programs that Debian ships with them: update and hotpatch agree."""

from __future__ import annotations

import lzma
import struct
import zlib
from pathlib import Path

import pytest

from tests.servers.command import DONE, NOTHING, Ran, hotmend_run
from tests.servers.conftest import Build
from tests.servers.packages import deb_fetch, pair_find

pytestmark = [pytest.mark.servers, pytest.mark.archive, pytest.mark.live]
TEXT = Path(__file__).read_bytes() * 50


def _verify(hotpatch: Build, package: str, program_package: str, *words: str) -> Ran:
    pair = pair_find(package)
    other = deb_fetch(program_package, pair.old_version)
    sides = ["--old", str(pair.old), "--new", str(pair.new), "--with", str(other)]
    return hotmend_run("verify", str(hotpatch(package)), *sides, *words)


def test_liblzma_by_xz_and_by_calls(hotpatch: Build, tmp_path: Path) -> None:
    packed = lzma.compress(TEXT)
    (tmp_path / "a.xz").write_bytes(packed)
    (tmp_path / "broken.xz").write_bytes(packed[:-9])
    inputs = ["--input", str(tmp_path / "a.xz"), "--input", str(tmp_path / "broken.xz")]
    ran = _verify(hotpatch, "liblzma5", "xz-utils", *inputs, "--", "xz", "-dc", "{}")
    assert ran.code == DONE, ran.told()
    assert ran.objects[0]["cases"] == 2
    assert ran.objects[0]["reached"]
    (tmp_path / "calls.toml").write_text(f"""
        [[call]]
        function = "lzma_stream_buffer_decode"
        arguments = [{{ pointer_to = {{ u64 = 100000000 }} }}, {{ u32 = 0 }}, {{ null = true }}, {{ file = "a.xz" }},
                     {{ pointer_to = {{ u64 = 0 }} }}, {{ u64 = {len(packed)} }}, {{ out = {len(TEXT)} }},
                     {{ pointer_to = {{ u64 = 0 }} }}, {{ u64 = {len(TEXT)} }}]
        returns = "i32"
    """)
    calls = ["--calls", str(tmp_path / "calls.toml"), "--input", str(tmp_path / "a.xz")]
    ran = _verify(hotpatch, "liblzma5", "xz-utils", *calls)
    assert ran.code == DONE, ran.told()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_libpng_by_pngfix(hotpatch: Build, tmp_path: Path) -> None:
    rows = b"".join(b"\0" + bytes(range(16)) for _ in range(16))
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 3, 0, 0, 0))
    colours = _chunk(b"PLTE", bytes(range(48))) + _chunk(b"tRNS", bytes(range(16))) + _chunk(b"hIST", bytes(32))
    image = b"\x89PNG\r\n\x1a\n" + header + colours + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(image)
    words = ["--input", str(tmp_path / "a.png"), "--", "pngfix", "--out=fixed.png", "{}"]
    ran = _verify(hotpatch, "libpng16-16", "libpng-tools", *words)
    assert ran.code in (DONE, NOTHING), ran.told()
    assert ran.objects[0]["differences"] == []
    assert ran.objects[0]["redirected"] > 0
