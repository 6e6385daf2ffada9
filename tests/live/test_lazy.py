"""Old invocations that go on in old code while new calls take the new one, and where that is refused."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hotmend.diff.pipeline import compare
from hotmend.image.elf import read_image
from hotmend.linux.process import MappedImage
from hotmend.live.driver import Options, ProcessResult, apply, revert
from hotmend.live.lazy import lazy_obstacles
from hotmend.live.machine import State
from hotmend.live.needs import Target as Update
from hotmend.live.registry import process_status
from hotmend.model.hotpatch import Hotpatch, Lazy
from hotmend.package.decode import decode
from hotmend.package.encode import encode
from tests.live.conftest import Target
from tests.live.handmade import make_hotpatch

SOURCE = Path(__file__).with_name("lazy.c")
OLD, NEW, NEW_OF_TWO = "35 605 3", "36 -1 3", "76 -1 7"
HELD_OLD, HELD_NEW = "65", "66"
STRICT = Options(deadline_seconds=0.2, max_pause_us=50_000)
LAZY = Options(deadline_seconds=10, lazy=True)
Start = Callable[..., Target]


@pytest.fixture(scope="module", params=["-O0", "-O2"])
def builds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Hotpatch, Hotpatch]:
    """The old program, and the hotpatches of one changed function and of two."""
    folder = tmp_path_factory.mktemp("lazy")
    programs = [folder / f"lazy{version}" for version in range(3)]
    for version, program in enumerate(programs):
        command = ["gcc", request.param, "-pthread", f"-DVERSION={version}", "-Wl,--build-id", "-o", program, SOURCE]
        subprocess.run(command, check=True)
    outcomes = [compare(read_image(programs[0]), read_image(program)) for program in programs[1:]]
    one, two = (decode(encode(o.hotpatch)) for o in outcomes if o.hotpatch is not None)
    return programs[0], one, two


def one(results: Sequence[ProcessResult], state: str) -> ProcessResult:
    """Return the only result, which must be `state`."""
    (result,) = results
    assert result.state == state, result
    return result


def hold(target: Target, count: int) -> list[str]:
    """Begin invocations that stay; return their threads."""
    tids = []
    for _ in range(count):
        target.ask("h")
        tids.append(target.ask("t"))
    return tids


@pytest.mark.parametrize("count", [1, 40])
def test_old_invocations_end_in_old_code(builds: tuple[Path, Hotpatch, Hotpatch], start: Start, count: int) -> None:
    program, hotpatch, _ = builds
    target = start(program)
    assert target.ask("a") == OLD
    tids = hold(target, count)
    refused = one(apply([hotpatch], [target.pid], STRICT), "refused")
    assert [r.code for r in refused.reasons] == ["function-active"]
    assert "--consistency lazy, which is proven" in refused.reasons[0].sentence
    assert target.ask("a") == OLD
    result = one(apply([hotpatch], [target.pid], LAZY), "applied")
    (said,) = result.reasons
    assert said.code == "old-code-goes-on"
    assert set(said.subjects) == {f"serve_guest in thread {tid}" for tid in tids}
    assert process_status(target.pid)[0].state is State.SETTLED
    for _ in range(count - 1):
        assert target.ask("r") == HELD_OLD
        assert target.ask("a") == NEW
    assert one(revert(None, [target.pid], Options()), "reverted").reasons == ()
    assert target.ask("a") == OLD
    assert target.ask("r") == HELD_OLD, "an invocation from before the apply outlived apply and revert"
    assert one(apply([hotpatch], [target.pid], LAZY), "applied").reasons == ()
    assert target.ask("a") == NEW


def test_a_revert_waits_for_new_code(builds: tuple[Path, Hotpatch, Hotpatch], start: Start) -> None:
    program, hotpatch, _ = builds
    target = start(program)
    one(apply([hotpatch], [target.pid], LAZY), "applied")
    (tid,) = hold(target, 1)
    refused = one(revert(None, [target.pid], STRICT), "refused")
    assert [(r.code, r.subjects) for r in refused.reasons] == [("function-active", (f"serve_guest in thread {tid}",))]
    assert "lazy" not in refused.reasons[0].sentence, "a revert is always strict"
    assert target.ask("r") == HELD_NEW
    one(revert(None, [target.pid], Options()), "reverted")
    assert target.ask("a") == OLD


def test_two_functions_are_not_switched_so(builds: tuple[Path, Hotpatch, Hotpatch], start: Start) -> None:
    program, _, hotpatch = builds
    target = start(program)
    hold(target, 1)
    refused = one(apply([hotpatch], [target.pid], LAZY), "refused")
    assert "lazy-changed-together" in {r.code for r in refused.reasons}
    assert (refused.attempts, process_status(target.pid), target.ask("a")) == (0, [], OLD)
    refused = one(apply([hotpatch], [target.pid], STRICT), "refused")
    assert "--consistency lazy is not proven for this update (lazy-changed-together" in refused.reasons[0].sentence
    assert target.ask("r") == HELD_OLD
    one(apply([hotpatch], [target.pid], Options()), "applied")
    assert target.ask("a") == NEW_OF_TWO


def test_a_file_that_does_not_say(builds: tuple[Path, Hotpatch, Hotpatch], start: Start) -> None:
    program, hotpatch, _ = builds
    target = start(program)
    for silent in (replace(hotpatch, lazy=None), replace(hotpatch, lazy=Lazy())):
        refused = one(apply([silent], [target.pid], LAZY), "refused")
        assert [r.code for r in refused.reasons] == ["lazy-not-examined"]
    assert (process_status(target.pid), target.ask("a")) == ([], OLD)


def test_not_over_an_earlier_hotpatch(program: Path, start: Start) -> None:
    proven = Lazy(evidence=("made by hand",))
    first = make_hotpatch(program, {"first": 2})
    second = replace(make_hotpatch(program, {"first": 3}), lazy=proven)
    target = start(program)
    one(apply([first], [target.pid], Options()), "applied")
    refused = one(apply([second], [target.pid], LAZY), "refused")
    assert [r.code for r in refused.reasons] == ["lazy-over-earlier"]
    assert target.ask("a") == "2 1 2"


def test_several_images(program: Path) -> None:
    """Each of them may be proven by itself, and yet nothing is said of the two together."""
    proven = replace(make_hotpatch(program, {"first": 3}), lazy=Lazy(evidence=("made by hand",)))
    image = MappedImage(1, "", "", proven.old_build_id, 0, 0, 0, False, None, 0)
    targets = [Update(proven, name, image) for name in ("a", "b")]
    assert lazy_obstacles(targets[:1], ()) == ()
    assert [r.code for r in lazy_obstacles(targets, ())] == ["lazy-several-images"]
