"""Where a Linux machine is in its channel: its baseline, its hotpatch, and whether it is on the line."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hotmend.agent.census.assessment import RunningProcess
from hotmend.agent.census.code_state import Patch, RunningImage
from hotmend.agent.census.owners import NOBODY
from hotmend.agent.line import Published, Standing, standing
from hotmend.image.deb import version_order
from hotmend.model.hotpatch import TypeCoverage
from hotmend.model.verdict import Verdict
from hotmend.repository.releases import (
    Baseline,
    HotpatchRelease,
    Manifest,
    ManifestPackage,
    PackageStep,
    ReleaseFile,
    ReleaseImage,
)

SHIPPED, FIXED, FIXED_AGAIN, OTHER = (pair * 20 for pair in ("aa", "bb", "cc", "dd"))
INSTALLED = {"nginx": "1.22-1", "tzdata": "2026b"}
PATH = "/usr/sbin/nginx"


def baseline(identity: str, month: int, nginx: str = "1.22-1") -> Baseline:
    made = datetime(2026, month, 1, tzinfo=UTC)
    packages = (
        ManifestPackage("nginx", nginx, "amd64", security=True, build_ids=(SHIPPED,)),
        ManifestPackage("postgresql", "15", "amd64", security=True),
    )
    manifest = Manifest("bookworm", made, packages)
    return Baseline(1, identity, "debian-12", identity, made, "security", "low", (), "", (), None, manifest)


def hotpatch(identity: str, day: int, new: str, requires: str = "b2") -> HotpatchRelease:
    made = datetime(2026, 11, day, tzinfo=UTC)
    image = ReleaseImage(
        "usr/sbin/nginx", "nginx", "1.22-1", "1.22-2", SHIPPED, new, Verdict.HOTPATCH, (), 1, 1, 1, 0, TypeCoverage.NONE
    )
    file = ReleaseFile(f"{identity}.hotmend", 1, "0" * 64, (image,))
    step = PackageStep("nginx", "1.22-1", "1.22-2")
    return HotpatchRelease(
        1, identity, "debian-12", identity, made, "security", "low", (), "", (), None, requires, (), (step,), (file,)
    )


def process(build: str = SHIPPED, new: str = "") -> RunningProcess:
    patch = Patch("id", new, "nginx", ("1", "2"), (), 0.0) if new else None
    return RunningProcess(7, "nginx", 1, NOBODY, (RunningImage(PATH, build, False, PATH, build, patch),))


CHANNEL = Published((baseline("b1", 7, "1.21-1"), baseline("b2", 10)), (hotpatch("h1", 5, FIXED),))


def found(
    *processes: RunningProcess, published: Published = CHANNEL, installed: dict[str, str] = INSTALLED, reboot: str = ""
) -> Standing:
    return standing(published, processes, installed, lambda a, b: version_order(a, b) < 0, (reboot,) if reboot else ())


def test_on_the_line_without_the_hotpatch_and_with_it() -> None:
    assert (found(process()).line, found(process()).level) == ("on", "b2")
    assert (found(process(new=FIXED)).line, found(process(new=FIXED)).level) == ("on", "b2, h1")
    assert found(process(new=FIXED), process()).level == "b2"  # one that has not taken it
    assert found(process(FIXED)).level == "b2, h1"  # restarted since: the disk has it
    assert found().level == "b2, h1"  # nothing of it runs


def test_a_hotpatch_that_a_later_one_holds_is_not_the_later_one() -> None:
    later = replace(CHANNEL, updates=(hotpatch("h2", 20, FIXED_AGAIN),))
    assert found(process(new=FIXED), published=later).level == "b2"
    assert found(process(new=FIXED_AGAIN), published=later).level == "b2, h2"


def test_a_build_that_the_channel_does_not_know_is_off_the_line() -> None:
    later = {"nginx": "1.22-9"}
    off = found(process(OTHER), installed=later)
    assert (off.line, off.level) == ("off", "b2")
    assert PATH in off.why[0]
    assert found(process(OTHER), published=replace(CHANNEL, updates=()), installed=later).line == "on"  # none is made
    assert found(process(OTHER), installed={"nginx": "1.22-2"}).line == "unknown"  # its own version, not named


def test_the_baseline_is_the_newest_that_is_here_whole() -> None:
    older = found(process(), installed={"nginx": "1.21-5"})
    assert (older.line, older.level) == ("on", "b1")
    none = found(process(), installed={"nginx": "1.20-1"})
    assert (none.line, none.level, none.why) == ("unknown", "", ("Older than in baseline b2: nginx 1.20-1.",))
    assert found(process(), installed={"nginx": "1.22-2"}).level == "b2"
    assert found(process(), published=Published((), ())).line == "unknown"


def test_with_a_reboot_due_nobody_knows_which_was_booted() -> None:
    assert found(process(), reboot="a kernel waits").line == "unknown"


def test_a_build_that_nobody_knows_is_not_known_to_be_on_the_line() -> None:
    plain = RunningProcess(8, "own", 1, NOBODY, (RunningImage("/opt/own", "", False, "/opt/own", "", None),))
    assert found(process(), plain).line == "on"  # the channel has nothing to do with it
