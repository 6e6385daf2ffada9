"""A later hotpatch takes over from an earlier one: one switch, the same variables, and back."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.replaces import replaces_run
from faults.target import health_of, program_make
from hotmend.diff.pipeline import compare
from hotmend.image.elf import read_image
from hotmend.linux.procfs import read_maps
from hotmend.live.driver import Options, ProcessResult, apply, repair, revert
from hotmend.live.gate import hotpatch_id
from hotmend.live.machine import State
from hotmend.live.registry import process_status
from hotmend.model.hotpatch import Hotpatch
from hotmend.package.decode import decode
from hotmend.package.encode import encode
from tests.live.conftest import Target, leaves_after
from tests.live.handmade import compile_target, make_hotpatch
from tests.live.test_lifetimes import HERE, build_id

SOURCE = Path(__file__).with_name("replaced.c")
ANSWERS = ("0 0 0", "1 1 0", "2 0 2", "3 3 3")
Start = Callable[..., Target]


@dataclass(frozen=True, slots=True)
class Builds:
    """The baseline, and the hotpatches of three updates of it."""

    program: Path
    patches: tuple[Hotpatch, ...]

    def ids(self, *numbers: int) -> list[str]:
        """Return the hotpatch ids of updates 1, 2, 3."""
        return [hotpatch_id(self.patches[n - 1]) for n in numbers]


def make_builds(folder: Path, *flags: str, strip: bool = True) -> Builds:
    """Compile all four, and compare the baseline with each of the others."""
    programs = [folder / f"program{version}" for version in range(4)]
    for version, program in enumerate(programs):
        command = ["gcc", "-O2", "-pthread", f"-DVERSION={version}", "-Wl,--build-id", *flags]
        subprocess.run([*command, "-o", str(program), str(SOURCE)], check=True)
        if strip:
            subprocess.run(["strip", "-s", str(program)], check=True)
    old = read_image(programs[0])
    outcomes = [compare(old, read_image(program)) for program in programs[1:]]
    assert all(outcome.hotpatch for outcome in outcomes), [outcome.reasons for outcome in outcomes]
    return Builds(programs[0], tuple(decode(encode(o.hotpatch)) for o in outcomes if o.hotpatch is not None))


@pytest.fixture(scope="module", params=["stripped", "named", "fixed"])
def builds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Builds:
    """With and without names, and at a fixed address."""
    flags = ("-no-pie", "-fno-pie") if request.param == "fixed" else ()
    return make_builds(tmp_path_factory.mktemp("replace"), *flags, strip=request.param != "named")


@pytest.fixture(scope="module")
def stripped(tmp_path_factory: pytest.TempPathFactory) -> Builds:
    """As distributions build."""
    return make_builds(tmp_path_factory.mktemp("replace"))


def done(results: list[ProcessResult], state: str = "applied") -> ProcessResult:
    """Return the only result, which must be `state`."""
    (result,) = results
    assert result.state == state, result
    return result


def change(builds: Builds, target: Target, number: int) -> ProcessResult:
    """Apply one of the updates."""
    return done(apply([builds.patches[number - 1]], [target.pid], Options()))


def states(target: Target) -> dict[str, State]:
    """Return hotpatch id -> state."""
    return {status.id: status.state for status in process_status(target.pid)}


def test_one_takes_over_from_the_other_and_gives_way(builds: Builds, start: Start) -> None:
    target = start(builds.program, "4")
    assert (target.ask("a"), target.ask("n")) == (ANSWERS[0], "-1")
    change(builds, target, 1)
    assert (target.ask("a"), target.ask("n"), target.ask("n")) == (ANSWERS[1], "100", "101")
    assert target.ask("p") == "102"
    change(builds, target, 2)
    assert target.ask("a") == ANSWERS[2]
    assert (target.ask("n"), target.ask("p"), target.ask("o")) == ("102", "103", "1")
    first, second, third = builds.ids(1, 2, 3)
    assert states(target) == {first: State.REPLACED, second: State.SETTLED}
    assert {s.replaced_by for s in process_status(target.pid)} == {second, ""}
    assert [s.active for s in process_status(target.pid) if s.id == first] == [False]
    change(builds, target, 3)
    assert target.ask("a") == ANSWERS[3]
    assert (target.ask("n"), target.ask("p"), target.ask("o")) == ("103", "104", "2")
    assert {s.replaced_by for s in process_status(target.pid)} == {third, ""}
    done(revert(builds.ids(3), [target.pid], Options()), "reverted")
    assert (target.ask("a"), target.ask("n"), target.ask("o")) == (ANSWERS[2], "104", "3")
    done(revert(builds.ids(2), [target.pid], Options()), "reverted")
    assert (target.ask("a"), target.ask("n"), target.ask("o")) == (ANSWERS[1], "105", "-1")
    assert states(target) == {first: State.SETTLED, second: State.PLACED, third: State.PLACED}
    done(revert(None, [target.pid], Options()), "reverted")
    assert (target.ask("a"), target.ask("n")) == (ANSWERS[0], "-1")
    assert target.ask("w") == "0 1"


def test_down_to_the_old_code(builds: Builds, start: Start) -> None:
    target = start(builds.program, "2")
    for number in (1, 2, 3):
        change(builds, target, number)
    done(revert(builds.ids(3), [target.pid], Options(dry_run=True, baseline=True)), "would-revert")
    done(revert(builds.ids(3), [target.pid], Options(baseline=True)), "reverted")
    assert target.ask("a") == ANSWERS[0]
    assert set(states(target).values()) == {State.PLACED}
    assert target.ask("w") == "0 1"


def test_what_was_replaced_is_neither_applied_nor_reverted(stripped: Builds, start: Start) -> None:
    target = start(stripped.program)
    change(stripped, target, 1)
    change(stripped, target, 2)
    for results in (
        apply([stripped.patches[0]], [target.pid], Options()),
        revert(stripped.ids(1), [target.pid], Options()),
    ):
        result = done(results, "refused")
        assert [reason.code for reason in result.reasons] == ["replaced-by-later"]
        assert stripped.ids(2)[0] in result.reasons[0].sentence
    assert target.ask("a") == ANSWERS[2]
    done(apply([stripped.patches[1]], [target.pid], Options()), "unchanged")
    done(repair([target.pid], Options()), "unchanged")


def test_shadows_are_used_again(stripped: Builds, start: Start) -> None:
    """Each hotpatch has one shadow for each hotpatch below it; nothing else is ever mapped."""
    target, seen = start(stripped.program, "2"), set()
    for _ in range(8):
        for number in (1, 2, 3):
            change(stripped, target, number)
            assert target.ask("a") == ANSWERS[number]
        done(revert(stripped.ids(3), [target.pid], Options(baseline=True)), "reverted")
        change(stripped, target, 2)
        assert target.ask("a") == ANSWERS[2]
        done(revert(None, [target.pid], Options()), "reverted")
        seen.add(tuple((m.start, m.end) for m in read_maps(target.pid)))
    assert len(seen) == 1
    assert len(process_status(target.pid)) == 4
    assert target.ask("w") == "0 1"


def test_a_thread_in_code_that_the_later_one_leaves_old_is_waited_for(
    stripped: Builds, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the earlier one's function at the switch, in the old function on the way back."""
    target, hurry = start(stripped.program), Options(deadline_seconds=0.3, max_pause_us=50_000)
    change(stripped, target, 1)
    assert target.ask("s") == "inside"
    result = done(apply([stripped.patches[1]], [target.pid], hurry), "refused")
    assert [reason.code for reason in result.reasons] == ["function-active"]
    with monkeypatch.context() as patched:
        leaves_after(3, target, patched)
        assert change(stripped, target, 2).attempts > 3
    assert (target.read(), target.ask("a")) == ("slept 1", ANSWERS[2])
    assert target.ask("s") == "inside"
    result = done(revert(stripped.ids(2), [target.pid], hurry), "refused")
    assert [reason.code for reason in result.reasons] == ["function-active"]
    assert (target.ask("w"), target.ask("a")) == ("slept 0", ANSWERS[2])
    done(revert(stripped.ids(2), [target.pid], Options()), "reverted")
    assert target.ask("a") == ANSWERS[1]


def test_addresses_of_added_functions(builds: Builds, start: Start) -> None:
    """Who has kept one calls the function of whichever is on, and finds it equal to what code hands out then."""
    target = start(builds.program)
    change(builds, target, 1)
    assert (target.ask("k"), target.ask("K")) == ("1", "1 1")
    for number in (2, 3):
        change(builds, target, number)
        assert target.ask("K") == f"{number} 1"
    assert target.ask("k") == "3"
    for number in (2, 1):
        done(revert(builds.ids(number + 1), [target.pid], Options()), "reverted")
        assert target.ask("K") == f"{number} 1"


def test_addresses_of_functions_that_the_later_one_has_not(tmp_path: Path, start: Start) -> None:
    builds = make_builds(tmp_path, "-DGIVES_UP")
    target = start(builds.program)
    change(builds, target, 1)
    assert target.ask("k") == "1"
    result = done(apply([builds.patches[1]], [target.pid], Options()), "refused")
    assert [reason.code for reason in result.reasons] == ["added-function-kept"]
    assert target.ask("a") == ANSWERS[1]


def test_objects_whose_addresses_are_compared(tmp_path: Path, start: Start) -> None:
    builds = make_builds(tmp_path, "-DSENTINEL")
    target = start(builds.program)
    change(builds, target, 1)
    assert (target.ask("t"), target.ask("t")) == ("0", "1")
    result = done(apply([builds.patches[1]], [target.pid], Options()), "refused")
    assert [reason.code for reason in result.reasons] == ["added-object-compared"]
    assert (target.ask("a"), target.ask("t")) == (ANSWERS[1], "1")


def test_a_function_that_two_in_a_row_leave_old(program: Path, start: Start) -> None:
    target = start(program, "4")
    first, second, third, fourth = (
        make_hotpatch(program, answers)
        for answers in ({"first": 2, "second": 2}, {"first": 3}, {"first": 4}, {"first": 5, "second": 5})
    )
    for hotpatch, answer in ((first, "2 2 2"), (second, "3 1 3"), (third, "4 1 4"), (fourth, "5 5 5")):
        done(apply([hotpatch], [target.pid], Options()))
        assert target.ask("a") == answer
    for hotpatch, answer in ((fourth, "4 1 4"), (third, "3 1 3"), (second, "2 2 2"), (first, "1 1 1")):
        done(revert([hotpatch_id(hotpatch)], [target.pid], Options()), "reverted")
        assert target.ask("a") == answer


def test_an_update_is_replaced_in_all_its_images_or_in_none(tmp_path: Path, start: Start) -> None:
    both = program_make(tmp_path)
    target = start(both.path, "2")
    done(apply(both.hotpatches, [target.pid], Options()))
    result = done(apply(both.later[:1], [target.pid], Options()), "refused")
    assert [reason.code for reason in result.reasons] == ["replaces-part"]
    assert health_of(target).code == "new"
    done(apply(both.later, [target.pid], Options()))
    assert health_of(target).code == "later"


def test_cycles_grow_nothing(tmp_path: Path) -> None:
    """A thousand of them: `python -m bench --only replace --cycles 1000`."""
    cycles = 30
    outcome = replaces_run(tmp_path, cycles)
    before, after = outcome.target
    assert (outcome.refused, outcome.half, outcome.wrong) == (0, 0, 0)
    assert (after.maps, after.descriptors) == (before.maps, before.descriptors)
    assert after.private_kib - before.private_kib < 4 * cycles / 2, "half a page in each cycle"
    assert outcome.patcher[0].descriptors == outcome.patcher[1].descriptors


def test_what_becomes_of_both_when_their_library_is_closed(tmp_path: Path, start: Start) -> None:
    """And of children forked in between, which have both and are changed by themselves."""
    library = compile_target(HERE / "loaded.c", tmp_path / "loaded.so", "-shared", "-fPIC", build_id())
    target = start(compile_target(HERE / "loading.c", tmp_path / "loading", build_id()), str(library))
    first, later = (make_hotpatch(library, answers) for answers in ({"first": 2, "second": 2}, {"first": 3}))
    done(apply([first], [target.pid], Options()))
    child = int(target.ask("F"))
    for pid in (target.pid, child):
        done(apply([later], [pid], Options()))
    assert (target.ask("a"), target.ask("C")) == ("3 1", "3 1")
    done(revert([hotpatch_id(later)], [child], Options()), "reverted")
    assert (target.ask("a"), target.ask("C")) == ("3 1", "2 2")
    assert (target.ask("c"), target.ask("o"), target.ask("a")) == ("done", "done", "1 1")
    assert {status.state for status in process_status(target.pid)} == {State.EMPTY}
    done(apply([later], [target.pid], Options()))
    assert target.ask("a") == "3 1"
    done(revert(None, [target.pid], Options()), "reverted")
    assert target.ask("a") == "1 1"
    done(apply([first], [target.pid], Options()))
    done(apply([later], [target.pid], Options()))
    assert target.ask("a") == "3 1"
    assert sorted(s.state for s in process_status(target.pid)) == ["empty", "empty", "placed", "replaced", "settled"]


def test_any_order(program: Path, start: Start) -> None:
    """Three hotpatches, applied and taken back at random: what runs is always the last one that is still on."""
    target, seed = start(program, "2"), random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    changed: tuple[dict[str, int | str], ...] = ({"first": 2, "second": 2}, {"first": 3}, {"second": 4})
    patches = [make_hotpatch(program, answers) for answers in changed]
    on: list[int] = []
    deeds = []
    for _ in range(60):
        which, deed = chance.randrange(3), chance.choice(("apply", "apply", "revert", "baseline", "all"))
        beneath = which in on[:-1]
        if deed == "apply":
            (result,) = apply([patches[which]], [target.pid], Options())
            wanted = "refused" if beneath else "unchanged" if which in on else "applied"
            on += [which] if wanted == "applied" else []
        else:
            ids = None if deed == "all" else [hotpatch_id(patches[which])]
            (result,) = revert(ids, [target.pid], Options(baseline=deed == "baseline"))
            there = bool(on) if deed == "all" else which in on
            wanted = "refused" if beneath and deed != "all" else "reverted" if there else "unchanged"
            if wanted == "reverted":
                on = on[:-1] if deed == "revert" else []
        deeds.append((deed, which))
        answers = changed[on[-1]] if on else {}
        first, second = answers.get("first", 1), answers.get("second", 1)
        assert (result.state, target.ask("a")) == (wanted, f"{first} {second} {first}"), (seed, deeds, result)
    assert len({s.header for s in process_status(target.pid)}) <= 3 + 3 * 2 + 3 * 2
