"""The two changes to one process: to the new code and back. Every step before the first write can still refuse."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from functools import partial

from hotmend.linux import procfs, remote
from hotmend.linux.calm import takes_turns
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.memory_group import memory_group_objection
from hotmend.linux.process import MappedImage, process_images
from hotmend.linux.procfs import Mapping
from hotmend.linux.stop import Stopper, settle_late
from hotmend.linux.unwind import Unwinder
from hotmend.live.audit import recorded
from hotmend.live.coroutines import Suspects, suspended_frames
from hotmend.live.crew import most_at_once
from hotmend.live.gate import FunctionRecord, HeaderRecord, Shadow
from hotmend.live.lazy import advice, goes_on, lazy_obstacles
from hotmend.live.machine import State, Step, state_of, steps_to_apply, steps_to_revert
from hotmend.live.needs import Refusal, Target
from hotmend.live.place import PlaceTakenError, map_call, place, placing_calls, written_bytes
from hotmend.live.plan import Plan, find_targets, make_plan, read_shadows
from hotmend.live.ranges import make_known
from hotmend.live.registry import mark_lost, observe, replacing
from hotmend.live.repair import Group, end_leftovers, find_leftovers, gate_groups
from hotmend.live.safety import Forbidden
from hotmend.live.symbols import unwinder_of
from hotmend.live.transaction import NotNowError, Transaction
from hotmend.live.work import ProcessResult, Work
from hotmend.model.hotpatch import Hotpatch
from hotmend.model.verdict import Reason, note, refusal

_UNDO_SECONDS = 1.0

_PLACES_MAX = 5
"""Places that are tried: a process whose threads begin to allocate maps large areas one after the other."""


# --- apply ------------------------------------------------------------------------------------------------


def apply_one(work: Work, hotpatches: Sequence[Hotpatch]) -> ProcessResult:
    """Apply to one process; where it does not get the memory of a shadow, look anew for a place, a few times.

    Shadows that were made before that stay and are used. The deadline is one for all places.
    """
    limit = time.perf_counter() + work.options.deadline_seconds
    for _ in range(_PLACES_MAX - 1):
        try:
            return _apply_once(work, hotpatches)
        except PlaceTakenError:
            if time.perf_counter() > limit or not settle_late():  # planning anew takes longer than a pause
                raise
    return _apply_once(work, hotpatches)


def _apply_once(work: Work, hotpatches: Sequence[Hotpatch]) -> ProcessResult:
    with ProcessMemory(work.pid, writable=not work.options.dry_run) as memory:
        images = process_images(work.pid, memory, disk=False).images
        targets = find_targets(hotpatches, images)
        if not targets:
            raise Refusal(refusal("not-mapped", f"process {work.pid} maps none of the images this update is for"))
        shadows = read_shadows(memory, images)
        ids, mapped = frozenset(target.id for target in targets), targets
        _end_others(work, memory, images, shadows, lambda update: update != ids)
        targets, running, earlier = _split_active(memory, targets, shadows)
        if not targets:
            return _finish_active(work, memory, running, images)
        obstacles = lazy_obstacles(mapped, earlier)
        if work.options.lazy and obstacles:
            raise Refusal(*obstacles)
        stopper = work.stopper()
        plan = _checked_plan(work, memory, stopper, targets, images, shadows, earlier)
        work.records = plan.records
        if work.options.dry_run:
            return work.result("would-apply")
        steps = tuple(Step)[:4] if plan.placements else steps_to_apply(observe(memory, plan.records, placed=True))
        carry_out = partial(_carry_out, work, memory, stopper, plan, images, advice(obstacles))
        return recorded(work, memory, "apply", plan.records, steps, carry_out, plan.placements)


def _end_others(
    work: Work,
    memory: ProcessMemory,
    images: tuple[MappedImage, ...],
    shadows: Sequence[Shadow],
    other: Callable[[frozenset[str]], bool],
) -> None:
    """Finish or undo what a patcher that died left of `other` updates (by ids); the rest is dealt with anyway."""
    if not work.options.dry_run:
        others = [group for group in gate_groups(shadows) if other(frozenset(group[0].update))]
        end_leftovers(work, memory, images, find_leftovers(memory, others, shadows))


def _split_active(
    memory: ProcessMemory, targets: tuple[Target, ...], shadows: Sequence[Shadow]
) -> tuple[tuple[Target, ...], tuple[HeaderRecord, ...], dict[str, HeaderRecord]]:
    """Return the targets not yet active, the headers of those that are, and what is active on the others' images.

    The last by id of the target: hotpatches that it takes over from.
    """
    active: dict[str, HeaderRecord] = {}
    earlier: dict[str, HeaderRecord] = {}
    for shadow in shadows:
        record = shadow.record
        same = next((t for t in targets if t.image.bias == record.old_bias), None)
        if same is None or not shadow.placed:
            continue
        seen = observe(memory, (record,), placed=True, shadows=shadows)
        state = state_of(seen)
        if state is State.DAMAGED:
            raise Refusal(
                refusal("entry-changed-meanwhile", f"{record.name}: something else wrote to redirected entries")
            )
        if state is State.REPLACED and same.id == record.hotpatch_id:
            raise _replaced(record, replacing(memory, record, shadows))
        if state.active and same.id == record.hotpatch_id:
            active[record.hotpatch_id] = record
        elif state.active:
            earlier[same.id] = record
    _refuse_parts(shadows, earlier)
    return tuple(t for t in targets if t.id not in active), tuple(active.values()), earlier


def _replaced(record: HeaderRecord, later: str) -> Refusal:
    sentence = f"{record.name}: hotpatch {record.hotpatch_id} was replaced by {later}; revert that one to bring it back"
    return Refusal(refusal("replaced-by-later", sentence))


def _refuse_parts(shadows: Sequence[Shadow], earlier: dict[str, HeaderRecord]) -> None:
    """Refuse to take over from an update in some of its images alone: all of it changes in one switch, or nothing."""
    headers = {record.header for record in earlier.values()}
    gates = {record.gate for record in earlier.values()}
    left = [s.record for s in shadows if s.placed and s.record.gate in gates and s.record.header not in headers]
    if left:
        ids = ", ".join(sorted({record.hotpatch_id for record in earlier.values()}))
        sentence = f"hotpatch {ids} changed other images too, which this update does not replace; revert it first"
        raise Refusal(refusal("replaces-part", sentence, *(record.name for record in left)))


def _finish_active(
    work: Work, memory: ProcessMemory, records: tuple[HeaderRecord, ...], images: tuple[MappedImage, ...]
) -> ProcessResult:
    """Everything is active: settle what a patcher that died left unsettled, else nothing."""
    work.records = records
    left = [r for r in records if state_of(observe(memory, (r,), placed=True)) is State.SWITCHED]
    if not left or work.options.dry_run:
        return work.result("unchanged")

    def settle() -> ProcessResult:
        work.begin(memory, records, images, work.stopper()).run(Step.SETTLE)
        return work.result("applied")

    return recorded(work, memory, "apply", records, (Step.SETTLE,), settle)


def _checked_plan(
    work: Work,
    memory: ProcessMemory,
    stopper: Stopper,
    targets: tuple[Target, ...],
    images: tuple[MappedImage, ...],
    shadows: tuple[Shadow, ...],
    earlier: dict[str, HeaderRecord],
) -> Plan:
    """Plan, with everything that can be refused without touching the process."""
    maps = procfs.read_maps(work.pid)
    plan = make_plan(targets, images, memory, maps, shadows, earlier)
    if plan.placements:
        work.gadgets = _checked_gadgets(memory, maps, plan, stopper)
    homes = [(t.image.start, t.image.end) for t in targets] + [(r.start, r.end) for r in earlier.values()]
    leaving = [f for r in plan.records for f in (*r.replaced, *r.before)]
    _refuse_suspended(work, memory, maps, images, leaving, tuple(homes))
    return plan


def _checked_gadgets(memory: ProcessMemory, maps: tuple[Mapping, ...], plan: Plan, stopper: Stopper) -> remote.Gadgets:
    """Return what remote calls run on, once it is clear that they can be made in this process."""
    gadgets = remote.find_gadgets(memory, maps)
    if gadgets is None:
        raise Refusal(
            refusal("no-gadget", f"process {memory.pid} has no code a system call could be made with; restart it")
        )
    calls = [call for placement in plan.placements for call in placing_calls(placement)]
    stopper.look_around()
    if objections := remote.process_objections(stopper, calls, gadgets):
        raise Refusal(*objections)
    if objection := memory_group_objection(memory.pid, written_bytes(plan.placements) * most_at_once()):
        raise Refusal(refusal("memory-limit", objection))
    return gadgets


def _refuse_suspended(
    work: Work,
    memory: ProcessMemory,
    maps: tuple[Mapping, ...],
    images: tuple[MappedImage, ...],
    functions: Sequence[FunctionRecord],
    homes: tuple[tuple[int, int], ...],
) -> None:
    """Refuse where a coroutine is suspended inside one of `functions`; have stacks of others looked at in the stop."""
    with contextlib.ExitStack() as made:

        @functools.cache
        def unwinder() -> Unwinder:
            return made.enter_context(contextlib.closing(unwinder_of(memory, images, maps)))

        restorers = work.restorers(memory, maps)
        suspects = Suspects(Forbidden(functions), homes, restorers, lambda pc: unwinder().frame_bytes(pc))
        found, work.contexts = suspended_frames(memory, maps, suspects)
    if found:
        raise Refusal(
            refusal(
                "coroutine-suspected",
                f"process {memory.pid} keeps return addresses into functions that change outside of its threads' "
                "stacks (coroutines?); try again later or restart it",
                *found,
            )
        )


def _carry_out(
    work: Work,
    memory: ProcessMemory,
    stopper: Stopper,
    plan: Plan,
    images: tuple[MappedImage, ...],
    help_: str,
) -> ProcessResult:
    """Place, stage, switch, settle; `help_` is what would help where a function is active."""
    transaction = work.begin(memory, plan.records, images, stopper)
    transaction.lazy, transaction.advice = work.options.lazy, help_
    if work.gadgets is not None:
        restorers = work.restorers(memory, procfs.read_maps(work.pid))
        work.caller = caller = remote.RemoteCaller(stopper, memory, work.gadgets, restorers)
        if takes_turns():  # so do others, which wait for less than two stops
            call = map_call(plan.placements[0].record)
            transaction.probe(lambda stopped: caller.begin(stopped, [call], transaction.limit))
        else:
            transaction.probe()
        began = time.perf_counter()
        for placement in plan.placements:
            place(caller, placement, began + work.options.deadline_seconds)
        stopper.release_late()  # here, and where more is done between two stops: a thread may be late for long
        transaction.know_placed()
        transaction.deadline += time.perf_counter() - began
    stopper.release_late()
    mark_lost(memory)
    stopper.release_late()
    make_known(transaction)
    stopper.release_late()
    steps = steps_to_apply(observe(memory, plan.records, placed=True))
    if not steps:
        raise Refusal(refusal("entry-changed-meanwhile", f"process {work.pid}: entries hold unexpected code"))
    try:
        transaction.walk(steps)
    except NotNowError as error:
        return _give_up(work, transaction, error)
    return work.result("applied", *goes_on(work.pid, transaction.goes_on))


def _give_up(work: Work, transaction: Transaction, error: NotNowError) -> ProcessResult:
    """Leave a clean process behind: old code and old entries, or new code with entries not all settled."""
    seen = observe(transaction.memory, transaction.records, placed=True)
    if seen.gate:
        unsettled = note("not-settled", "the new code runs; some entries still go through their stubs")
        return work.result("applied", unsettled, *goes_on(work.pid, transaction.goes_on))
    if seen.stub:
        transaction.deadline = time.perf_counter() + _UNDO_SECONDS
        with contextlib.suppress(NotNowError):  # staged entries are harmless: they mean the old code
            transaction.run(Step.UNSTAGE)
    return work.result("refused", *error.reasons)


# --- revert -----------------------------------------------------------------------------------------------


def revert_one(work: Work, ids: frozenset[str] | None) -> ProcessResult:
    """Take back every update of one process that has one of `ids` (None: all), each with its whole group.

    What such an update took over from is active then; with `Options.baseline` that is taken back too.
    """
    with ProcessMemory(work.pid, writable=not work.options.dry_run) as memory:
        images = process_images(work.pid, memory, disk=False).images
        shadows = read_shadows(memory, images)
        if ids is not None:
            _end_others(work, memory, images, shadows, lambda update: not ids & update)
        state = "unchanged"
        notes: tuple[Reason, ...] = ()
        for records in _latest_first(memory, shadows, ids, baseline=work.options.baseline):
            seen = observe(memory, records, placed=True, shadows=shadows)
            if state_of(seen) is State.DAMAGED:
                raise Refusal(refusal("entry-changed-meanwhile", f"process {work.pid}: entries hold unexpected code"))
            if state_of(seen) is State.REPLACED and state != "would-revert":
                raise _replaced(records[0], replacing(memory, records[0], shadows))
            steps = steps_to_revert(seen)
            if steps and work.options.dry_run:
                work.records, state = records, "would-revert"
            elif steps:
                take_back = partial(_take_back, work, memory, records, images, steps)
                result = recorded(work, memory, "revert", records, steps, take_back)
                state, notes = result.state, notes + result.reasons
        return work.result(state, *notes)


def _latest_first(
    memory: ProcessMemory, shadows: Sequence[Shadow], ids: frozenset[str] | None, *, baseline: bool
) -> list[Group]:
    """Return the updates to take back, those that took over before those that they took over from."""
    groups = gate_groups(shadows)
    chosen = [g for g in groups if ids is None or ids & set(g[0].update)]
    if baseline:
        # What merely stands ready above another one has nothing to take back.
        opened = [g for g in chosen if memory.read(g[0].gate, 1) == b"\1"]
        wanted = {gate for g in opened for gate in (g[0].gate, *_gates_below(g, groups))}
        chosen = [g for g in groups if g[0].gate in wanted or g in chosen]
    return sorted(chosen, key=lambda g: -len(_gates_below(g, groups)))


def _gates_below(group: Group, groups: Sequence[Group]) -> set[int]:
    """Return the gates of all updates that a group takes over from, directly or not."""
    found = {record.over for record in group if record.over}
    for other in groups:
        if other[0].gate in found:
            found |= _gates_below(other, groups)
    return found


def _take_back(
    work: Work,
    memory: ProcessMemory,
    records: tuple[HeaderRecord, ...],
    images: tuple[MappedImage, ...],
    steps: tuple[Step, ...],
) -> ProcessResult:
    """Run the steps back; where no safe moment comes, settle again and refuse."""
    if Step.UNSWITCH in steps:
        homes = [(i.start, i.end) for i in images if any(i.bias == r.old_bias for r in records)]
        homes += [(r.start, r.end) for r in records]
        new = [f for r in records for f in (*r.functions, *r.after)]
        _refuse_suspended(work, memory, procfs.read_maps(work.pid), images, new, tuple(homes))
    transaction = work.begin(memory, records, images, work.stopper())
    try:
        transaction.walk(steps)
    except NotNowError:
        seen = observe(memory, records, placed=True)
        if seen.gate:
            transaction.deadline = time.perf_counter() + _UNDO_SECONDS
            with contextlib.suppress(NotNowError):
                transaction.walk(steps_to_apply(seen))
            raise
    return work.result("reverted")
