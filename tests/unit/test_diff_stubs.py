"""Where stubs stand and what their relocations say; what they do is shown in `test_image_entry`."""

from __future__ import annotations

import itertools

from iced_x86 import Code, Decoder, Instruction

from hotmend.diff.stubs import Entry, make_stubs
from hotmend.image.entry import displace
from hotmend.model.addresses import PAGE_BYTES, Extent, LinkAddress
from hotmend.model.hotpatch import GateTarget, OldTarget, Redirection, Relocation, RelocationKind, Segment

_BEHIND = 0x9123
_TEXTS = ("55 4889e5 5d c3", "4883ec08 e811000000 c3", "8b0500010000 c3", "c3 cccccccc", "4883ec08 ff1500100000 c3")
_WIDTH = {RelocationKind.PC32: 4, RelocationKind.ABS64: 8}


def _entry(n: int) -> Entry:
    old, text = LinkAddress(0x1000 + 0x40 * n), bytes.fromhex(_TEXTS[n])
    return Entry(f"f{n}", old, LinkAddress(0x2000 + 0x40 * n), text, displace(text, old, set()))


_SEGMENTS, _RELOCATIONS, _REDIRECTIONS = make_stubs([_entry(n) for n in range(len(_TEXTS))], _BEHIND)


def _stubs() -> list[tuple[Redirection, Extent, bool]]:
    return [(r, e, e is r.far_stub) for r in _REDIRECTIONS for e in (r.near_stub, r.far_stub)]


def _segment(extent: Extent) -> Segment:
    (segment,) = (s for s in _SEGMENTS if s.extent.start <= extent.start and extent.end <= s.extent.end)
    return segment


def _bytes(extent: Extent) -> bytes:
    segment = _segment(extent)
    return segment.content[extent.start - segment.extent.start : extent.end - segment.extent.start]


def _decoded(extent: Extent) -> list[Instruction]:
    return list(Decoder(64, _bytes(extent), ip=extent.start))


def _inside(extent: Extent) -> list[Relocation]:
    return [r for r in _RELOCATIONS if r.address in extent]


def test_no_entries_need_nothing() -> None:
    assert make_stubs([], _BEHIND) == ((), (), ())


def test_stubs_stand_on_executable_pages_behind_the_image() -> None:
    assert [(s.section, s.permissions) for s in _SEGMENTS] == [(".text.stub", "r-x"), (".text.stub.far", "r-x")]
    assert _SEGMENTS[0].extent.start == 0xA000
    assert _SEGMENTS[0].extent.start % PAGE_BYTES == 0
    for segment in _SEGMENTS:
        assert len(segment.content) == segment.extent.size


def test_stubs_are_aligned_and_do_not_overlap() -> None:
    found = sorted(e for _, e, _ in _stubs())
    assert len(found) == 2 * len(_TEXTS)
    assert all(e.start % 16 == 0 and e.size > 0 for e in found)
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))
    assert [_segment(e).section for _, e, far in _stubs() if far] == [".text.stub.far"] * len(_TEXTS)


def test_every_relocation_lies_in_one_stub_and_no_two_overlap() -> None:
    assert list(_RELOCATIONS) == sorted(_RELOCATIONS, key=lambda r: r.address)
    ends = [r.address + _WIDTH[r.kind] for r in _RELOCATIONS]
    assert all(end <= r.address for end, r in zip(ends, _RELOCATIONS[1:], strict=False))
    for relocation, end in zip(_RELOCATIONS, ends, strict=True):
        assert sum(relocation.address in e and end <= e.end for _, e, _ in _stubs()) == 1
        assert relocation.evidence == "stub"


def test_stubs_test_the_gate_first() -> None:
    for redirection, extent, far in _stubs():
        code = _decoded(extent)
        gates = [r for r in _inside(extent) if isinstance(r.target, GateTarget)]
        assert len(gates) == 1
        if far:
            expected = [Code.PUSH_R64, Code.MOV_R64_IMM64, Code.CMP_RM8_IMM8, Code.POP_R64, Code.JNE_REL32_64]
            assert [i.code for i in code[:5]] == expected
            assert (gates[0].kind, gates[0].address, gates[0].addend) == (RelocationKind.ABS64, code[1].ip + 2, 0)
            assert code[0].op0_register == code[3].op0_register == code[1].op0_register == code[2].memory_base
            branch = code[4]
        else:
            assert [i.code for i in code[:2]] == [Code.CMP_RM8_IMM8, Code.JNE_REL32_64]
            # S + A - P is taken from the end of the instruction, one immediate byte behind the field.
            assert (gates[0].kind, gates[0].address, gates[0].addend) == (RelocationKind.PC32, code[0].ip + 2, -5)
            branch = code[1]
        assert branch.near_branch_target == redirection.new


def test_stubs_go_on_behind_the_displaced_instructions() -> None:
    for redirection, extent, _ in _stubs():
        text = bytes.fromhex(_TEXTS[int(redirection.name[1:])])
        assert redirection.entry == text[: len(redirection.entry)]
        jumps = [i for i in _decoded(extent) if i.code == Code.JMP_REL32_64]
        back = redirection.old + len(redirection.entry)
        leads = {r.target.address for r in _inside(extent) if isinstance(r.target, OldTarget)}
        if redirection.name in ("f0", "f2"):
            (jump,) = jumps
            assert any(r.address == jump.ip + 1 and r.target == OldTarget(LinkAddress(back)) for r in _inside(extent))
        elif redirection.name == "f1":
            assert leads == {back, LinkAddress(0x1040 + 9 + 0x11)}  # the pushed return address, and the callee
        elif redirection.name == "f4":
            assert leads == {back, LinkAddress(0x1100 + 10 + 0x1000)}  # the return address, and the slot
        else:
            assert (jumps, leads) == ([], set())


def test_a_pushed_return_address_is_a_word_of_the_stub() -> None:
    for redirection, extent, _ in _stubs():
        words = [r for r in _inside(extent) if r.kind is RelocationKind.ABS64 and isinstance(r.target, OldTarget)]
        pushes = [i for i in _decoded(extent) if i.code == Code.PUSH_RM64]
        assert [i.ip_rel_memory_address for i in pushes] == [r.address for r in words]
        assert bool(words) == (redirection.name in ("f1", "f4"))
