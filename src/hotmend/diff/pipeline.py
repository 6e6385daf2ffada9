"""The comparison as a reader follows it: named steps, top to bottom."""

from __future__ import annotations

import gc
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from hotmend.diff.align import Aligned, map_aligned
from hotmend.diff.allocation import judge_allocations
from hotmend.diff.assemble import Assembly
from hotmend.diff.closure import Selection, select
from hotmend.diff.compare import compare_contents
from hotmend.diff.copies import judge_copies, judge_identity, judge_registrations
from hotmend.diff.correspond import Correspondence
from hotmend.diff.judge import judge_biased, judge_exports, judge_labels, judge_splits, judge_unwinding
from hotmend.diff.layout import judge_layout, judge_thread_storage
from hotmend.diff.leftover import judge_leftovers
from hotmend.diff.match import match_changed
from hotmend.diff.objects import Objects
from hotmend.diff.pair import pair_identical
from hotmend.diff.pointers import follow_gaps, follow_pointers, map_names
from hotmend.diff.reconstruct import reconstruct
from hotmend.diff.redirect import plan_entries
from hotmend.diff.room import judge_room
from hotmend.diff.stubs import Entry, make_stubs
from hotmend.diff.votes import correspond
from hotmend.image.image import Image
from hotmend.image.references import survey
from hotmend.model.addresses import Extent, LinkAddress
from hotmend.model.hotpatch import Hotpatch, NewFunction, Outcome, ReplacedFunction, Segment, Statistics
from hotmend.model.verdict import Reason, Severity, Verdict, judge


class _Clock:
    """Wall time of each step, in seconds."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, float]] = []
        self._last = time.perf_counter()

    def step(self, name: str) -> None:
        now = time.perf_counter()
        self.steps.append((name, now - self._last))
        self._last = now


ACCEPTABLE = frozenset(
    {"allocation-size-changed", "contents-may-be-copied", "start-only-code", "function-split", "registered-at-start"}
)
"""Reasons that depend on what the process does: an operator who knows may accept them, no other."""


def compare(old: Image, new: Image, *, path: str = "", accept: frozenset[str] = frozenset()) -> Outcome:
    """Compare two builds of one image and make the hotpatch, or say why there is none.

    Args:
        old: the build that runs.
        new: the build of the update.
        path: of the image in its package.
        accept: codes of refusals, out of `ACCEPTABLE`, that become notes.
    """
    with _without_collector():
        return _compare(old, new, path, accept & ACCEPTABLE)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Switch the cyclic collector off: hundreds of thousands of small values live to the end anyway."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _compare(old: Image, new: Image, path: str, accept: frozenset[str]) -> Outcome:
    clock = _Clock()
    before = survey(old)
    after = survey(new, before)
    clock.step("decode")
    c = correspond(before, after, pair_identical(before, after))
    old_objects, new_objects = Objects(before), Objects(after)
    follow_gaps(c)
    map_names(c)
    follow_pointers(c, old_objects, new_objects)
    clock.step("correspond")
    match_changed(c)
    aligned = Aligned(c)
    map_aligned(c, aligned)
    match_changed(c)  # what aligned calls and addresses have proven pairs more functions
    clock.step("match")
    contents = compare_contents(c, old_objects, new_objects)
    clock.step("contents")
    reasons = [*c.reasons, *contents.reasons, *judge_thread_storage(old, new), *judge_exports(old, new)]
    reasons += [
        *judge_layout(c, aligned),
        *judge_allocations(c, aligned),
        *judge_splits(c),
        *judge_room(c, new_objects),
        *judge_copies(c, contents, aligned),
        *judge_identity(c, contents, aligned),
        *judge_leftovers(c, contents),
    ]
    clock.step("layout")
    selection = select(c, contents)
    reasons += [
        *selection.reasons,
        *judge_labels(c),
        *judge_unwinding(c, selection, aligned),
        *judge_biased(c, selection, aligned),
        *judge_registrations(c, contents, selection, aligned),
    ]
    clock.step("closure")
    assembly = Assembly(c, contents, selection, aligned)
    assembly.run()
    clock.step("assemble")
    entries, refusals = plan_entries(c, contents, selection, assembly)
    segments = assembly.segments()
    reasons += [*refusals, *assembly.reasons, *assembly.resolver.reasons.values()]
    clock.step("redirect")
    reconstructed, reconstructible, failures = reconstruct(c)
    reasons += failures
    clock.step("reconstruct")
    ordered = _ordered([replace(r, severity=Severity.NOTE) if r.code in accept else r for r in reasons])
    outcome = Outcome(
        name=new.name,
        path=path or new.name,
        old_build_id=old.build_id,
        new_build_id=new.build_id,
        verdict=judge(ordered, changed=bool(selection.shadow)),
        reasons=ordered,
        statistics=_statistics(c, selection, assembly, reconstructed, reconstructible),
        hotpatch=None,
    )
    if outcome.verdict in (Verdict.HOTPATCH, Verdict.HOTPATCH_WITH_NOTES):
        outcome = replace(outcome, hotpatch=_hotpatch(outcome, c, selection, segments, assembly, entries))
    clock.step("write")
    return replace(outcome, seconds=tuple(clock.steps))


def _hotpatch(
    outcome: Outcome,
    c: Correspondence,
    selection: Selection,
    segments: tuple[Segment, ...],
    assembly: Assembly,
    entries: list[Entry],
) -> Hotpatch:
    """Put what was found into the value that is written to a file."""
    old, new = c.old.image, c.new.image
    stub_segments, stub_relocations, redirections = make_stubs(entries, new.extent.end)
    relocations = sorted((*assembly.relocations.values(), *stub_relocations), key=lambda r: r.address)
    return Hotpatch(
        name=outcome.name,
        path=outcome.path,
        old_build_id=outcome.old_build_id,
        new_build_id=outcome.new_build_id,
        old_extent=old.extent,
        new_extent=new.extent,
        segments=tuple(sorted((*segments, *stub_segments), key=lambda s: s.extent.start)),
        relocations=tuple(relocations),
        functions=_functions(c, selection),
        replaced=_replaced(c),
        redirections=redirections,
        statistics=outcome.statistics,
        verdict=outcome.verdict,
        reasons=outcome.reasons,
        update_bytes=new.file_bytes,
    )


def _ordered(reasons: list[Reason]) -> tuple[Reason, ...]:
    """Merge reasons of one kind, refusals first."""
    merged: dict[tuple[Severity, str, str], list[str]] = {}
    for reason in reasons:
        subjects = merged.setdefault((reason.severity, reason.code, reason.sentence), [])
        subjects += [s for s in reason.subjects if s not in subjects]
    result = [Reason(code, severity, sentence, tuple(s)) for (severity, code, sentence), s in merged.items()]
    return tuple(sorted(result, key=lambda r: (r.severity is not Severity.REFUSAL, r.code)))


def _statistics(
    c: Correspondence, selection: Selection, assembly: Assembly, reconstructed: int, reconstructible: int
) -> Statistics:
    changed = sum(1 for j in selection.shadow if j in selection.origin)
    partners = {*c.same, *c.pairs}
    return Statistics(
        identical=len(c.same),
        changed=changed,
        added=len(selection.shadow) - changed,
        removed=sum(1 for i in range(len(c.old.codes)) if i not in partners),
        references=tuple(sorted(assembly.evidence.items())),
        reconstructed=reconstructed,
        reconstructible=reconstructible,
    )


def _functions(c: Correspondence, selection: Selection) -> tuple[NewFunction, ...]:
    result = []
    for j in sorted(selection.shadow):
        code = c.new.codes[j]
        i = selection.origin.get(j, -1)
        old = c.old.codes[i] if i >= 0 else None
        result.append(
            NewFunction(
                code.name or (old.label if old else code.label),
                Extent(code.start, code.size),
                Extent(old.start, old.size) if old else Extent(LinkAddress(0), 0),
            )
        )
    return tuple(result)


def _replaced(c: Correspondence) -> tuple[ReplacedFunction, ...]:
    return tuple(
        ReplacedFunction(code.label, Extent(code.start, code.size), hashlib.sha256(c.old.bytes_of(i)).hexdigest())
        for i, code in enumerate(c.old.codes)
        if i not in c.same and not code.gap
    )
