"""Does the hotpatched old build give what the new build gives? Up to four hosts, and what they show.

    old            without hotpatch: what the update changes
    hotpatched     the old build, changed at its beginning
    new            what it has to come out as
    watched        hotpatched once more, to see which changed functions ran at all

Where hotpatched and new differ, the new build runs a second time: what differs there too cannot be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hotmend.live.needs import Refusal
from hotmend.model.addresses import BuildId
from hotmend.model.hotpatch import Hotpatch
from hotmend.model.verdict import Reason, note, refusal
from hotmend.trial.compare import Difference, compare
from hotmend.trial.host import Host, HostRun
from hotmend.trial.trials import Side, Trial

DIFFERENCES_SHOWN = 20

Progress = Callable[[str, int, int], None]
"""Called with what begins now, how many steps are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What came out.

    Attributes:
        state: `agree`, `differ`, `nothing-shown` (they agree, but no changed function ran) or `refused`.
        cases: number of runs compared.
        applied: names of the images that were changed in the host.
        redirected: functions that led to new code.
        reached: names of those that ran, sorted.
        changed: what the update changes over these inputs: differences of old and new.
        differences: of new and hotpatched.
        reasons: why.
        pause_us: longest stop of a host, microseconds.
    """

    state: str
    cases: int
    applied: tuple[str, ...]
    redirected: int
    reached: tuple[str, ...]
    changed: tuple[Difference, ...]
    differences: tuple[Difference, ...]
    reasons: tuple[Reason, ...]
    pause_us: float


def verify(hotpatches: Sequence[Hotpatch], old: Side, new: Side, trial: Trial, progress: Progress) -> Verification:
    """Run the hosts and compare.

    Raises:
        CellError: there can be no host on this machine.
        InputError: a file or program is missing.
    """
    old_ids = frozenset(hotpatch.old_build_id for hotpatch in hotpatches)
    new_ids = frozenset(hotpatch.new_build_id for hotpatch in hotpatches)
    plan = (
        ("old build", Host(old, trial, old_ids)),
        ("hotpatched", Host(old, trial, old_ids, tuple(hotpatches))),
        ("new build", Host(new, trial, new_ids)),
        ("hotpatched, watched", Host(old, trial, old_ids, tuple(hotpatches), watch=True)),
    )
    runs = []
    try:
        for number, (name, host) in enumerate(plan):
            progress(name, number, len(plan))
            runs.append(host.run())
        before, patched, after, watched = runs
        _check_same_images(hotpatches, patched, after)
        differences = compare(after.observations, patched.observations)
        unstable = compare(after.observations, plan[2][1].run().observations) if differences else ()
    except Refusal as error:
        return Verification("refused", 0, (), 0, (), (), (), error.reasons, 0.0)
    progress("compared", len(plan), len(plan))
    changed = compare(before.observations, after.observations)
    state, reasons = _judge(differences, unstable, watched)
    return Verification(
        state=state,
        cases=len(patched.observations),
        applied=tuple(dict.fromkeys(shadow.name for change in patched.changes for shadow in change.shadows)),
        redirected=max((change.redirected for change in patched.changes), default=0),
        reached=tuple(sorted(watched.reached)),
        changed=changed,
        differences=differences,
        reasons=reasons,
        pause_us=max((change.pause_us for change in patched.changes), default=0.0),
    )


def _check_same_images(hotpatches: Sequence[Hotpatch], patched: HostRun, after: HostRun) -> None:
    """Refuse where the new host runs old builds of what was changed in the hotpatched one."""
    pairs: dict[BuildId, BuildId] = {h.old_build_id: h.new_build_id for h in hotpatches}
    missing = sorted({pairs[build_id] for build_id in patched.mapped} - after.mapped)
    if missing:
        raise Refusal(refusal("build-not-mapped", "the host of the new build does not map all of it", *missing))


def _judge(
    differences: Sequence[Difference], unstable: Sequence[Difference], watched: HostRun
) -> tuple[str, tuple[Reason, ...]]:
    """Return the state and its reasons."""
    subjects = [str(difference) for difference in differences[:DIFFERENCES_SHOWN]]
    varying = {(d.case, d.item) for d in unstable}
    if differences and {(d.case, d.item) for d in differences} <= varying:
        sentence = "outputs differ, and those of two runs of the new build do as well: they cannot be compared"
        return "refused", (refusal("outputs-vary", sentence, *subjects),)
    if differences:
        return "differ", (
            refusal("outputs-differ", "the hotpatched old build gives something else than the new build", *subjects),
        )
    if not watched.reached:
        sentence = "outputs agree, but no changed function ran: these inputs show nothing about the hotpatch"
        return "nothing-shown", (note("no-changed-function-ran", sentence),)
    return "agree", ()
