"""Hotpatches for tests: a small one written by hand, and a hypothesis strategy for all valid ones."""

from __future__ import annotations

from hypothesis import strategies as st

from hotmend.model.addresses import PAGE_BYTES, BuildId, Extent, LinkAddress, page_ceil
from hotmend.model.hotpatch import (
    AddedVariable,
    GateTarget,
    Hotpatch,
    ImportTarget,
    Lazy,
    Mark,
    NewFunction,
    OldTarget,
    Port,
    Redirection,
    Relocation,
    RelocationKind,
    ReplacedFunction,
    Segment,
    ShadowTarget,
    Statistics,
    Target,
)
from hotmend.model.verdict import Reason, Severity, Verdict, note

_CODE = bytes.fromhex("55 488d0500000000 e800000000 e800000000 5d c3".replace(" ", ""))
_NEAR = bytes.fromhex("803d0000000000 0f8500000000 5548c7c000000000 e900000000".replace(" ", ""))
_FAR = bytes.fromhex("5048b8000000000000000080380058 0f8500000000 5548c7c000000000 e900000000".replace(" ", ""))


def extent(start: int, size: int) -> Extent:
    return Extent(LinkAddress(start), size)


def relocation(address: int, kind: RelocationKind, target: Target, addend: int, evidence: str = "name") -> Relocation:
    return Relocation(LinkAddress(address), kind, target, addend, evidence, 7 if evidence == "votes" else 0)


def old(address: int) -> OldTarget:
    return OldTarget(LinkAddress(address))


def shadow(address: int) -> ShadowTarget:
    return ShadowTarget(LinkAddress(address))


def sample() -> Hotpatch:
    """Return a hotpatch with one of everything."""
    pc32, abs64 = RelocationKind.PC32, RelocationKind.ABS64
    near, far = extent(0x9000, len(_NEAR)), extent(0xA000, len(_FAR))
    return Hotpatch(
        name="server",
        path="usr/sbin/server",
        old_build_id=BuildId("ab" * 20),
        new_build_id=BuildId("cd" * 20),
        old_extent=extent(0, 0x8000),
        new_extent=extent(0, 0x9000),
        segments=(
            Segment(extent(0x1010, len(_CODE)), "r-x", _CODE, ".text"),
            Segment(extent(0x1100, len(_CODE)), "r-x", _CODE, ".text"),
            Segment(extent(0x2004, 16), "r--", b"hello world\0", ".rodata"),
            Segment(extent(0x3000, 64), "rw-", b"", ".bss"),
            Segment(extent(0x3100, 64), "rw-", bytes(8), ".data"),
            Segment(near, "r-x", _NEAR, ".text.stub"),
            Segment(extent(0x9100, 5), "r-x", b"\xe9\xfb\x7f\xff\xff", ".text.port"),
            Segment(far, "r-x", _FAR, ".text.stub.far"),
        ),
        relocations=(
            relocation(0x1014, pc32, shadow(0x2004), -4, "new"),
            relocation(0x1019, pc32, old(0x5000), -4, "votes"),
            relocation(0x101E, pc32, ImportTarget("memcpy", "GLIBC_2.14", weak=False), -4, "import"),
            relocation(0x1104, pc32, ImportTarget("__gmon_start__", "", weak=True), -4, "import"),
            relocation(0x3100, abs64, old(0x7000), 3),
            relocation(0x9002, pc32, GateTarget(), -5, "stub"),
            relocation(0x9009, pc32, shadow(0x1010), -4, "stub"),
            relocation(0x9016, pc32, old(0x1008), -4, "stub"),
            relocation(0xA003, abs64, GateTarget(), 0, "stub"),
            relocation(0xA011, pc32, shadow(0x1010), -4, "stub"),
            relocation(0xA01E, pc32, old(0x1008), -4, "stub"),
        ),
        functions=(
            NewFunction("parse", extent(0x1010, len(_CODE)), extent(0x1000, 18)),
            NewFunction("check", extent(0x1100, len(_CODE)), extent(0, 0)),
        ),
        replaced=(ReplacedFunction("parse", extent(0x1000, 18), "0f" * 32),),
        redirections=(
            Redirection(
                "parse",
                LinkAddress(0x1000),
                LinkAddress(0x1010),
                bytes.fromhex("5548c7c000000000"),
                near,
                far,
            ),
        ),
        statistics=Statistics(100, 1, 1, 0, (("import", 2), ("votes", 1)), 100, 100),
        verdict=Verdict.HOTPATCH_WITH_NOTES,
        reasons=(note("start-only", "One function runs at start only.", "init"),),
        cves=("CVE-2024-7347",),
        versions=("1.22.1-9+deb12u2", "1.22.1-9+deb12u3"),
        package="server",
        update_bytes=600_000,
        variables=(AddedVariable("counter", extent(0x3000, 8), "0" * 64, (Mark("name:counter", 0),)),),
        compared=("EMPTY",),
        ports=(Port("callback", LinkAddress(0x9100), LinkAddress(0x1100), (Mark("code:0", 0),)),),
    )


_text = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)
_name = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
_symbol = _name.map(lambda s: s.replace("@", "_"))
_address = st.integers(0, (1 << 47) - 256).map(LinkAddress)
_count = st.integers(0, 1 << 62)
_extents = st.builds(Extent, st.integers(0, 1 << 46).map(LinkAddress), st.integers(0, 1 << 20))
_build_ids = st.binary(min_size=1, max_size=64).map(lambda b: BuildId(b.hex()))
_targets = st.one_of(
    st.builds(OldTarget, _address),
    st.builds(ShadowTarget, _address),
    st.builds(ImportTarget, _symbol, _symbol | st.just(""), st.booleans()),
    st.just(GateTarget()),
)


@st.composite
def _segments(draw: st.DrawFn) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    at = draw(st.integers(0, 1 << 40))
    for _ in range(draw(st.integers(0, 6))):
        permissions = draw(st.sampled_from(("r-x", "r--", "rw-")))
        if segments and segments[-1].permissions != permissions:
            at = page_ceil(at)
        at += draw(st.integers(0, 3 * PAGE_BYTES))
        content = draw(st.binary(max_size=40))
        rest = draw(st.integers(0 if content else 1, 2 * PAGE_BYTES))
        segments.append(Segment(extent(at, len(content) + rest), permissions, content, draw(_name)))
        at += len(content) + rest
    return tuple(segments)


@st.composite
def _relocations(draw: st.DrawFn, segments: tuple[Segment, ...]) -> tuple[Relocation, ...]:
    relocations = []
    for segment in segments:
        position = 0
        while draw(st.booleans()):
            kind = draw(st.sampled_from(RelocationKind))
            width = 8 if kind is RelocationKind.ABS64 else 4
            position += draw(st.integers(0, 6))
            if position + width > len(segment.content):
                break
            where = LinkAddress(segment.extent.start + position)
            addend = draw(st.integers(-(1 << 62), 1 << 62))
            relocations.append(Relocation(where, kind, draw(_targets), addend, draw(_name), draw(_count)))
            position += width
    return tuple(relocations)


@st.composite
def hotpatches(draw: st.DrawFn) -> Hotpatch:
    """Return any valid hotpatch."""
    segments = draw(_segments())
    places = [s for s in segments if s.permissions == "r-x" and s.content]
    code = [extent(s.extent.start, len(s.content)) for s in places]
    functions = tuple(NewFunction(draw(_name), c, draw(_extents)) for c in code)
    redirections = tuple(
        Redirection(draw(_name), draw(_address), c.start, draw(st.binary(min_size=5, max_size=20)), c, c) for c in code
    )
    statistics = st.builds(
        Statistics, _count, _count, _count, _count, st.lists(st.tuples(_name, _count), max_size=3).map(tuple),
        _count, _count,
    )  # fmt: skip
    replaced = st.builds(ReplacedFunction, _name, _extents, st.binary(min_size=32, max_size=32).map(bytes.hex))
    reasons = st.builds(Reason, _text, st.sampled_from(Severity), _text, st.lists(_text, max_size=3).map(tuple))
    lazy = st.none() | st.builds(Lazy, st.just(("shown",)), st.lists(reasons, max_size=1).map(tuple))
    return Hotpatch(
        name=draw(_name),
        path=draw(_text),
        old_build_id=draw(_build_ids),
        new_build_id=draw(_build_ids),
        old_extent=draw(_extents),
        new_extent=draw(_extents),
        segments=segments,
        relocations=draw(_relocations(segments)),
        functions=functions,
        replaced=tuple(draw(st.lists(replaced, max_size=3))),
        redirections=redirections,
        statistics=draw(statistics),
        verdict=draw(st.sampled_from(Verdict)),
        reasons=tuple(draw(st.lists(reasons, max_size=3))),
        cves=tuple(draw(st.lists(_text, max_size=3))),
        versions=(draw(_text), draw(_text)),
        package=draw(_text),
        update_bytes=draw(_count),
        lazy=draw(lazy),
    )
