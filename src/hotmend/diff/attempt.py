"""One try at a hotpatch: the chosen functions put together, and what stands in the way."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from hotmend.diff.align import Aligned
from hotmend.diff.assemble import Assembly
from hotmend.diff.closure import Selection, select
from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding
from hotmend.diff.identity import identify, identify_ports
from hotmend.diff.redirect import plan_entries
from hotmend.diff.rules.copies import judge_registrations
from hotmend.diff.rules.exported import judge_exported
from hotmend.diff.rules.judge import exceptions_pass, judge_biased, judge_labels
from hotmend.diff.rules.siblings import judge_siblings
from hotmend.diff.stubs import Entry, make_ports, make_stubs
from hotmend.diff.unwinding import Unwinding
from hotmend.model.addresses import Extent, LinkAddress
from hotmend.model.hotpatch import Hotpatch, NewFunction, Outcome, ReplacedFunction, Segment, UnwindTable


@dataclass(frozen=True, slots=True)
class Attempt:
    """A shadow, and the findings about it.

    Attributes:
        selection: which codes are in it.
        assembly: their relocations and evidence.
        segments: the bytes.
        entries: old entries that lead to it.
        findings: what only the chosen functions show.
        unwinding: the table of their frames.
    """

    selection: Selection
    assembly: Assembly
    segments: tuple[Segment, ...]
    entries: tuple[Entry, ...]
    findings: tuple[Finding, ...]
    unwinding: UnwindTable | None = None


def attempt(
    c: Correspondence,
    contents: Contents,
    aligned: Aligned,
    left: frozenset[int] = frozenset(),
    stays_old: frozenset[str] = frozenset(),
) -> Attempt:
    """Put together all changed functions but those of `left`.

    Args:
        c: the correspondence.
        contents: compared objects.
        aligned: bodies of changed functions.
        left: new codes that stay old.
        stays_old: names of functions of the update's other images that do.
    """
    selection = select(c, contents, left)
    assembly = Assembly(c, contents, selection, aligned)
    assembly.run()
    callers = exceptions_pass(c, selection, aligned)
    unwinding, cannot_unwind = Unwinding(c, selection, assembly).run(callers)
    entries, refusals = plan_entries(c, contents, selection, assembly)
    refused = frozenset().union(*(f.blamed or () for f in refusals))
    segments = assembly.segments()
    findings = (
        *selection.findings,
        *judge_labels(c, selection),
        *cannot_unwind,
        *judge_biased(c, selection, aligned),
        *judge_registrations(c, contents, selection, aligned),
        *judge_siblings(c, contents, selection, stays_old),
        *refusals,
        *judge_exported(c, selection, {entry.old: entry.new for entry in entries}, refused),
        *assembly.findings(),
    )
    return Attempt(selection, assembly, segments, tuple(entries), findings, unwinding)


def hotpatch_of(outcome: Outcome, c: Correspondence, made: Attempt) -> Hotpatch:
    """Put what was found into the value that is written to a file."""
    old, new = c.old.image, c.new.image
    ports = identify_ports(c, made.selection, made.assembly.ports)
    segment = make_ports(ports)
    behind = segment[-1].extent.end if segment else new.extent.end
    stub_segments, stub_relocations, redirections = make_stubs(list(made.entries), behind)
    relocations = sorted((*made.assembly.relocations.values(), *stub_relocations), key=lambda r: r.address)
    return Hotpatch(
        name=outcome.name,
        path=outcome.path,
        old_build_id=outcome.old_build_id,
        new_build_id=outcome.new_build_id,
        old_extent=old.extent,
        new_extent=new.extent,
        segments=tuple(sorted((*made.segments, *segment, *stub_segments), key=lambda s: s.extent.start)),
        relocations=tuple(relocations),
        functions=_functions(c, made.selection),
        replaced=_replaced(c, made.selection),
        redirections=redirections,
        statistics=outcome.statistics,
        verdict=outcome.verdict,
        reasons=outcome.reasons,
        update_bytes=new.file_bytes,
        unwinding=made.unwinding,
        variables=identify(c, made.selection, made.assembly.variables),
        ports=ports,
        compared=tuple(new.names.get(LinkAddress(a), f"object_{a:x}") for a in sorted(made.assembly.compared)),
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


def _replaced(c: Correspondence, selection: Selection) -> tuple[ReplacedFunction, ...]:
    """Return the old functions that no thread may be inside of: changed ones, and those that are gone."""
    staying = {*selection.kept.values(), *(i for j, i in selection.origin.items() if j in selection.left)}
    return tuple(
        ReplacedFunction(code.label, Extent(code.start, code.size), hashlib.sha256(c.old.bytes_of(i)).hexdigest())
        for i, code in enumerate(c.old.codes)
        if i not in staying and not code.gap
    )
