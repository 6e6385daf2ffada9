"""The comparison as a reader follows it: named steps, top to bottom."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from hotmend.diff.align import Aligned, map_aligned
from hotmend.diff.attempt import Attempt, attempt, hotpatch_of
from hotmend.diff.compare import Contents, compare_contents
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding, whole
from hotmend.diff.handlers import unsettle_handlers
from hotmend.diff.kinship import judge_kinship
from hotmend.diff.lazy import prove_lazy
from hotmend.diff.lines import Lines, find_cosmetic, set_cosmetic
from hotmend.diff.match import match_changed
from hotmend.diff.objects import Objects
from hotmend.diff.options import ACCEPTABLE, Options
from hotmend.diff.pair import pair_identical
from hotmend.diff.partial import attempt_part
from hotmend.diff.pointers import follow_gaps, follow_pointers, map_names
from hotmend.diff.reconstruct import reconstruct
from hotmend.diff.rules.allocation import judge_allocations
from hotmend.diff.rules.arrays import judge_arrays
from hotmend.diff.rules.changes import Changes
from hotmend.diff.rules.copies import judge_copies, judge_identity
from hotmend.diff.rules.generated import judge_text
from hotmend.diff.rules.judge import judge_exports, judge_splits
from hotmend.diff.rules.layout import judge_layout, judge_thread_storage
from hotmend.diff.rules.leftover import judge_leftovers
from hotmend.diff.rules.room import judge_room
from hotmend.diff.rules.threads import judge_thread_places
from hotmend.diff.rules.types import coverage, judge_types, without_guesses
from hotmend.diff.rules.values import judge_values
from hotmend.diff.votes import correspond
from hotmend.image.image import Image
from hotmend.image.references import survey
from hotmend.model.hotpatch import Outcome, Statistics, TypeCoverage
from hotmend.model.verdict import Reason, Severity, Verdict, judge, note


class _Clock:
    """Wall time of each step, in seconds."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, float]] = []
        self._last = time.perf_counter()

    def step(self, name: str) -> None:
        now = time.perf_counter()
        self.steps.append((name, now - self._last))
        self._last = now


def compare(old: Image, new: Image, *, path: str = "", options: Options | None = None) -> Outcome:
    """Compare two builds of one image and make the hotpatch, or say why there is none.

    Args:
        old: the build that runs.
        new: the build of the update.
        path: of the image in its package.
        options: what the caller accepts and asks for.
    """
    if reasons := judge_kinship(old, new) or judge_text(old, new):
        return _not_compared(old, new, path, reasons)
    with _without_collector():
        return _compare(old, new, path, options or Options())


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


def _compare(old: Image, new: Image, path: str, options: Options) -> Outcome:
    clock = _Clock()
    c, contents, aligned = _correspond(old, new, options, clock)
    changes = Changes(c, aligned)
    findings = _accepted(_judge(c, contents, aligned, changes, options), options)
    clock.step("judge")
    reconstructed, reconstructible, failures = reconstruct(c)
    findings += whole(failures)
    shared = _Shared(reconstructed, reconstructible, coverage(c, options.types))
    clock.step("reconstruct")
    made = attempt(c, contents, aligned, stays_old=options.stays_old)
    everything = [*findings, *_accepted(made.findings, options), *_cosmetic(c, made)]
    outcome = _outcome(c, made, path, everything, shared)
    clock.step("assemble")
    if options.partial and outcome.verdict is Verdict.BASELINE_REQUIRED:
        part = attempt_part(c, contents, aligned, changes, made, findings, options.stays_old)
        if part is not None:
            made, causes = part
            everything = _findings_of_part(c, made, findings, causes, options)
            outcome = replace(_outcome(c, made, path, everything, shared), whole=outcome)
        clock.step("part")
    if outcome.verdict is Verdict.BASELINE_REQUIRED:
        outcome = replace(outcome, left=tuple(c.new.codes[j].label for j in sorted(made.selection.shadow)))
    elif outcome.verdict is not Verdict.NO_CHANGE:
        hotpatch = hotpatch_of(outcome, c, made)
        hotpatch = replace(hotpatch, lazy=prove_lazy(c, contents, aligned, made, hotpatch))
        outcome = replace(outcome, hotpatch=hotpatch)
    clock.step("write")
    return replace(outcome, seconds=tuple(clock.steps))


def _correspond(old: Image, new: Image, options: Options, clock: _Clock) -> tuple[Correspondence, Contents, Aligned]:
    """Find out what of the old build became what of the new one, and which contents are equal."""
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
    lines: Lines = {}
    if not options.exact:
        set_cosmetic(c, find_cosmetic(c, lines))
    aligned = Aligned(c)
    map_aligned(c, aligned)
    match_changed(c)  # what aligned calls and addresses have proven pairs more functions
    if not options.exact:
        set_cosmetic(c, find_cosmetic(c, lines))
    follow_pointers(c, old_objects, new_objects)  # of the tables that these have mapped
    unsettle_handlers(c)
    clock.step("match")
    contents = compare_contents(c, old_objects, new_objects)
    clock.step("contents")
    return c, contents, aligned


@dataclass(frozen=True, slots=True)
class _Shared:
    """Figures that are those of the whole and of a part alike."""

    reconstructed: int
    reconstructible: int
    types: TypeCoverage


def _not_compared(old: Image, new: Image, path: str, reasons: tuple[Reason, ...]) -> Outcome:
    """Return the refusal of a pair that was not compared: nothing is known of its functions."""
    return Outcome(
        name=new.name,
        path=path or new.name,
        old_build_id=old.build_id,
        new_build_id=new.build_id,
        verdict=judge(reasons, changed=True),
        reasons=reasons,
        statistics=Statistics(0, 0, 0, 0, (), 0, 0),
        hotpatch=None,
    )


def _outcome(c: Correspondence, made: Attempt, path: str, findings: list[Finding], shared: _Shared) -> Outcome:
    """Return what an attempt amounts to, without its hotpatch."""
    old, new = c.old.image, c.new.image
    reasons = _ordered([f.reason for f in findings])
    return Outcome(
        name=new.name,
        path=path or new.name,
        old_build_id=old.build_id,
        new_build_id=new.build_id,
        verdict=judge(reasons, changed=bool(made.selection.shadow)),
        reasons=reasons,
        statistics=_statistics(c, made, shared),
        hotpatch=None,
        left=tuple(c.new.codes[j].label for j in sorted(made.selection.left)),
        same_names=_names(c, made.selection.kept) if made.selection.left else frozenset(),
    )


def _judge(
    c: Correspondence, contents: Contents, aligned: Aligned, changes: Changes, options: Options
) -> list[Finding]:
    """Apply the rules that look at all that changed, whatever part of it is taken in."""
    exact = judge_types(c, options.types)
    return [
        *whole(c.reasons),
        *contents.findings,
        *judge_thread_storage(c.old.image, c.new.image),
        *judge_thread_places(c, aligned),
        *judge_exports(c, contents),
        *judge_arrays(c),
        *exact,
        *without_guesses(c, options.types, exact, judge_layout(c, aligned)),
        *judge_allocations(c, contents, aligned),
        *judge_splits(c),
        *judge_room(c, contents.new),
        *judge_copies(c, contents, aligned),
        *judge_identity(c, contents, aligned),
        *judge_leftovers(c, contents),
        *judge_values(c, contents, aligned, changes),
    ]


def _names(c: Correspondence, codes: Iterable[int]) -> frozenset[str]:
    """Return the names of new codes, as far as they have any."""
    return frozenset(c.new.codes[j].name for j in codes if c.new.codes[j].name)


def _accepted(findings: Iterable[Finding], options: Options) -> list[Finding]:
    """Turn into notes what the operator accepts."""
    accept = options.accept & ACCEPTABLE
    return [
        replace(f, reason=replace(f.reason, severity=Severity.NOTE)) if f.reason.code in accept else f for f in findings
    ]


def _cosmetic(c: Correspondence, made: Attempt) -> list[Finding]:
    """Say which functions stay because nothing but line numbers changed in them."""
    staying = [c.new.codes[j].label for j in sorted(c.cosmetic.values()) if j in made.selection.kept]
    if not staying:
        return []
    sentence = "functions that differ in nothing but source line numbers of error calls stay as they are"
    return [Finding(note("line-numbers-kept", sentence, *staying))]


def _findings_of_part(
    c: Correspondence, made: Attempt, findings: list[Finding], causes: list[Finding], options: Options
) -> list[Finding]:
    """Return the notes that concern what a part holds, and what it leaves and why."""
    kept = [f for f in (*findings, *_accepted(made.findings, options)) if not f.refuses]
    kept = [f for f in kept if f.blamed is None or f.blamed & made.selection.shadow]
    return [*kept, *_cosmetic(c, made), *_left_for_baseline(c, made, causes)]


def _left_for_baseline(c: Correspondence, made: Attempt, causes: list[Finding]) -> list[Finding]:
    """Say what stays old, for each refusal that made it so."""
    result = []
    for cause in causes:
        names = [c.new.codes[j].label for j in sorted((cause.blamed or frozenset()) & made.selection.left)]
        sentence = f"left for the baseline: {cause.reason.sentence} [{cause.reason.code}]"
        result.append(Finding(note("left-for-baseline", sentence, *names)))
    blamed = frozenset().union(*(cause.blamed or frozenset() for cause in causes))
    bound = [c.new.codes[j].label for j in sorted(made.selection.left - blamed)]
    if bound:
        sentence = "left for the baseline: functions bound to those that have to stay old"
        result.append(Finding(note("left-for-baseline", sentence, *bound)))
    return result


def _ordered(reasons: list[Reason]) -> tuple[Reason, ...]:
    """Merge reasons of one kind, refusals first."""
    merged: dict[tuple[Severity, str, str], list[str]] = {}
    for reason in reasons:
        subjects = merged.setdefault((reason.severity, reason.code, reason.sentence), [])
        subjects += [s for s in reason.subjects if s not in subjects]
    result = [Reason(code, severity, sentence, tuple(s)) for (severity, code, sentence), s in merged.items()]
    return tuple(sorted(result, key=lambda r: (r.severity is not Severity.REFUSAL, r.code)))


def _statistics(c: Correspondence, made: Attempt, shared: _Shared) -> Statistics:
    selection = made.selection
    changed = sum(1 for j in selection.shadow if j in selection.origin)
    partners = {*c.staying(), *c.pairs}
    cosmetic = sum(1 for j in c.cosmetic.values() if j in selection.kept)
    return Statistics(
        identical=len(selection.kept) - cosmetic,
        changed=changed,
        added=len(selection.shadow) - changed,
        removed=sum(1 for i in range(len(c.old.codes)) if i not in partners),
        references=tuple(sorted(made.assembly.evidence.items())),
        reconstructed=shared.reconstructed,
        reconstructible=shared.reconstructible,
        types=shared.types,
        cosmetic=cosmetic,
    )
