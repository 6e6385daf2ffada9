"""How known issues of releases concern this machine: asked of the real one, and of processes as they may run."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from hotmend.agent.census.assessment import Assessment, RunningProcess, take_assessment
from hotmend.agent.census.code_state import Patch, RunningImage
from hotmend.agent.census.kernel import Boot
from hotmend.agent.census.owners import Owner, OwnerKind
from hotmend.agent.issues import ISSUES_BYTES_MAX, ISSUES_MAX, Here, fitting, issues_here
from hotmend.cli.issue_text import issue_rows
from hotmend.repository.releases import AnyRelease, HotpatchRelease, KnownIssue
from hotmend.servicing.known_issues import Condition, Option, Step
from hotmend.servicing.on_linux import OnLinux
from hotmend.wire.report import RELEASE_LETTERS_MAX, Issue, IssueOption, IssueStep
from tests.repository.kit import baseline, hotpatch

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
TODAY = NOW.date()


@pytest.fixture(scope="module")
def seen() -> Iterator[tuple[Assessment, int]]:
    """Return this machine as it is, and a process of it; into others, that end or are held just now, none may look."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        while b"libc" not in Path(f"/proc/{process.pid}/maps").read_bytes():
            time.sleep(0.01)
        yield dataclasses.replace(take_assessment(), unseen=()), process.pid
        process.kill()


def test_this_machine_answers_for_itself(seen: tuple[Assessment, int], tmp_path: Path) -> None:
    here = Here(seen[0], ())
    python = str(Path(sys.executable).resolve())
    assert (here.runs(python), here.runs("/nowhere/python")) == (True, False)
    assert (here.installed("dpkg", ""), here.installed("dpkg", "1.0"), here.installed("dpkg", "1:99")) == (
        True,
        True,
        False,
    )
    assert (here.installed("no-such-package", ""), here.installed("dpkg", "no version")) == (False, None)
    booted = here.booted_at()
    assert booted is not None
    said = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    assert abs(booted.timestamp() - int(said.split()[1])) < 5
    file = tmp_path / "conf"
    file.write_text("one\n\ttwo  three\n")
    changed = here.changed_at(str(file))
    assert changed is not None
    assert abs(changed - datetime.now(UTC)) < timedelta(seconds=60)
    os.utime(file, (0, 0))  # `cp --preserve` brings an old file's time along
    assert (here.changed_at(str(file)) or NOW) >= changed
    assert here.lines(str(file)) == ("one", "\ttwo  three")
    assert here.changed_at(str(tmp_path / "none")) is None


def test_what_is_no_small_file_has_no_lines(tmp_path: Path) -> None:
    here = Here(_found(), ())
    (tmp_path / "big").write_bytes(b"x" * ((1 << 20) + 1))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert [here.lines(str(tmp_path / name)) for name in ("big", "pipe", "loop", "")] == [None] * 4
    for path in ("/dev/zero", "/proc/kmsg", "/proc/self/status", "/sys/kernel/mm/transparent_hugepage/enabled"):
        assert here.lines(path) is None
    (tmp_path / "log").symlink_to("/proc/kmsg")
    assert here.lines(str(tmp_path / "log")) is None
    with pytest.raises(FileNotFoundError):
        here.lines(str(tmp_path / "none"))


def test_when_the_processes_of_a_unit_began(seen: tuple[Assessment, int]) -> None:
    found, pid = seen
    processes = tuple(
        dataclasses.replace(process, owner=Owner(OwnerKind.SERVICE, "x.service"))
        for process in found.processes
        if process.pid == pid
    )
    here = Here(dataclasses.replace(found, processes=processes), ())
    (began,) = here.began_at("x") or ()
    assert here.began_at("x.service") == (began,)
    assert abs(datetime.now(UTC) - began) < timedelta(minutes=10)
    assert here.began_at("y") is None  # another name of it, or one that does not run


def test_a_unit_may_have_dots_in_its_name(seen: tuple[Assessment, int]) -> None:
    found, pid = seen
    (process,) = [process for process in found.processes if process.pid == pid]
    one = dataclasses.replace(process, owner=Owner(OwnerKind.SERVICE, "php8.2-fpm.service"))
    here = Here(dataclasses.replace(found, processes=(one,)), ())
    assert here.began_at("php8.2-fpm") == here.began_at("php8.2-fpm.service") != None  # noqa: E711


def test_what_runs_is_told_by_its_whole_path_and_not_in_containers(seen: tuple[Assessment, int]) -> None:
    found, _ = seen
    image = RunningImage("/lib/x86_64-linux-gnu/libx.so.1.2", "ab", False, "", None)
    process = RunningProcess(1, "x", 1, Owner(OwnerKind.SERVICE, "x.service"), (image,))
    here = Here(dataclasses.replace(found, processes=(process,)), ())
    wanted = ("/usr/lib/x86_64-linux-gnu/libx.so.1.2", "/lib/x86_64-linux-gnu/libx.so.1.2")
    assert [here.runs(path) for path in wanted] == [True, True]
    others = ("/opt/lib/x86_64-linux-gnu/libx.so.1.2", "/lib/x86_64-linux-gnu/libx.so.1.3")
    assert [here.runs(path) for path in others] == [False, False]
    inside = dataclasses.replace(process, owner=Owner(OwnerKind.CONTAINER, "docker x"))
    assert Here(dataclasses.replace(found, processes=(inside,)), ()).runs(wanted[0]) is False


def test_a_link_counts_from_when_it_was_made(tmp_path: Path) -> None:
    here = Here(_found(), ())
    (tmp_path / "available").write_text("x")
    before = here.changed_at(str(tmp_path / "available"))
    time.sleep(0.05)
    (tmp_path / "enabled").symlink_to("available")
    after = here.changed_at(str(tmp_path / "enabled"))
    assert before is not None
    assert after is not None
    assert after > before


@pytest.mark.parametrize(
    ("state", "answer"),
    [("installed", True), ("triggers-pending", None), ("half-configured", None), ("config-files", False)],
)
def test_what_is_half_installed_nobody_can_tell(
    state: str, answer: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "dpkg-query"
    script.write_text(f"#!/bin/sh\necho server {state} 1.2\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert Here(_found(), ()).installed("server", "") is answer


def _release(identity: str, *issues: KnownIssue) -> HotpatchRelease:
    return msgspec.structs.replace(hotpatch(NOW, identity), known_issues=issues)


def _found(*releases: HotpatchRelease, unseen: tuple[int, ...] = ()) -> Assessment:
    """Return a machine where each release's code is in the memory of a process."""
    processes = tuple(
        RunningProcess(
            100 + number,
            "server",
            1,
            Owner(OwnerKind.SERVICE, "server.service"),
            (
                RunningImage(
                    "/usr/sbin/server",
                    image.old_build_id,
                    False,
                    "/usr/sbin/server",
                    image.old_build_id,
                    Patch("id", image.new_build_id, "server", ("1", "2"), (), 0.0),
                ),
            ),
        )
        for number, image in enumerate(release.files[0].images[0] for release in releases)
    )
    return Assessment(NOW, processes, unseen, Boot("", "", (), container=True, required=False, packages=()))


_PAGE = Option(
    "off", "Off", (Step("Put it off", Condition(linux=OnLinux(file="/nowhere/conf")), ("do it",), reboot=True),)
)


def test_an_issue_concerns_whoever_has_its_release_in_memory() -> None:
    issue = KnownIssue("It is slow.", NOW, options=(_PAGE,), deadline=date(2026, 12, 1), cost="It stays slow.")
    release = _release("r1", issue)
    assert issues_here([release], _found(), TODAY) == ()
    (told,) = issues_here([release], _found(release), TODAY)
    assert (told.id, told.title, told.affected, told.cost) == ("r1/0", "It is slow.", True, "It stays slow.")
    assert (told.deadline, told.overdue, told.done) == (date(2026, 12, 1), False, False)
    assert told.options[0].steps == (IssueStep("Put it off", False, ("do it",), reboot=True),)
    assert issues_here([release], _found(release), date(2026, 12, 1))[0].overdue
    (perhaps,) = issues_here([release], _found(unseen=(1,)), TODAY)  # nobody knows what that process runs
    assert perhaps.affected is None


def test_of_those_it_may_concern_some_alone() -> None:
    some = KnownIssue("It is slow.", NOW, affected=Condition(linux=OnLinux(package="no-such-package")))
    release = _release("r1", some, KnownIssue("It is loud.", NOW))
    assert [issue.id for issue in issues_here([release], _found(release), TODAY)] == ["r1/1"]


def test_an_issue_that_later_releases_have_as_well_is_told_once() -> None:
    issue = KnownIssue("It is slow.", NOW)
    releases: list[AnyRelease] = [_release("r1", issue), _release("r2", KnownIssue("Else.", NOW), issue)]
    found = _found(_release("r1"))
    assert [each.id for each in issues_here(releases, found, TODAY)] == ["r2/0", "r2/1"]
    assert [each.id for each in issues_here(releases[:1], found, TODAY)] == ["r1/0"]


def test_of_a_baseline_only_what_says_whom_it_concerns_is_judged() -> None:
    words = KnownIssue("A word.", NOW)
    rule = KnownIssue("A rule.", NOW, affected=Condition(linux=OnLinux(package="dpkg")))
    release = msgspec.structs.replace(baseline(NOW), known_issues=(words, rule))
    assert [each.id for each in issues_here([release], _found(), TODAY)] == [f"{release.id}/1"]


def test_who_has_the_release_that_resolved_it_is_not_concerned() -> None:
    issue = KnownIssue("It is slow.", NOW, resolved_by="r2")
    first, second = _release("r1", issue), _release("r2")
    (image,) = second.files[0].images
    newer = msgspec.structs.replace(image, new_build_id="ef" * 20)
    second = msgspec.structs.replace(second, files=(msgspec.structs.replace(second.files[0], images=(newer,)),))
    assert [each.id for each in issues_here([first, second], _found(first), TODAY)] == ["r1/0"]
    assert issues_here([first, second], _found(first, second), TODAY) == ()


def test_there_are_not_more_than_a_report_takes() -> None:
    release = _release("r1", *(KnownIssue(f"Issue {number}", NOW) for number in range(ISSUES_MAX + 1)))
    shown, left = fitting(issues_here([release], _found(release), TODAY))
    assert (len(shown), left) == (ISSUES_MAX, 1)


@pytest.mark.parametrize(("letters", "told"), [(RELEASE_LETTERS_MAX, 1), (RELEASE_LETTERS_MAX + 1, 0)])
def test_what_a_report_has_no_room_for_is_left_out(letters: int, told: int) -> None:
    release = _release("r" * letters, KnownIssue("It is slow.", NOW))
    found = issues_here([release], _found(release), TODAY)
    assert len(found) == told
    assert msgspec.json.decode(msgspec.json.encode(found), type=tuple[Issue, ...]) == found


def test_long_ones_do_not_make_a_report_too_long() -> None:
    """What is late comes first; one that does not fit takes none of the others with it."""
    step = Step("Do it", Condition(linux=OnLinux(file="/nowhere")), ("x" * 400,) * 50)
    long = [KnownIssue(f"Issue {n}", NOW, options=(Option("o", "O", (step,)),)) for n in range(10)]
    late = KnownIssue("Late", NOW, options=(_PAGE,), deadline=TODAY)
    release = _release("r1", *long, late)
    shown, left = fitting(issues_here([release], _found(release), TODAY))
    assert shown[0].title == "Late"
    assert len(shown) + left == len(long) + 1
    assert 0 < left < len(long)
    assert len(msgspec.json.encode(shown)) < ISSUES_BYTES_MAX + 1000
    huge = msgspec.structs.replace(late, options=(Option("o", "O", (step,) * 10),))
    shown, left = fitting(issues_here([_release("r1", huge, late, long[0])], _found(release), TODAY))
    assert ([issue.title for issue in shown], left) == (
        ["Issue 0"],
        1,
    )  # `late` has the same title and moment as `huge`


def test_nothing_is_done_where_there_is_nothing_to_do() -> None:
    assert not Issue("r1/0", "It is slow.", True, options=(IssueOption("Nothing"),)).done


def test_an_issue_in_lines() -> None:
    steps = (IssueStep("Say so", True, ("echo yes",)), IssueStep("Boot", None, reboot=True))
    issue = Issue("r1/0", "It is slow.", None, "It stays slow.", TODAY, True, (IssueOption("Larger", steps),))
    assert list(issue_rows(issue)) == [
        "It is slow. [r1/0]: may be affected, before 2026-11-30 (late)",
        "  if nothing is done: It stays slow.",
        "  Larger:",
        "    1. Say so: done",
        "       echo yes",
        "    2. Boot (a reboot): not known",
    ]
    done = msgspec.structs.replace(issue, options=(IssueOption("Larger", steps[:1]),), overdue=False)
    assert next(issue_rows(done)) == "It is slow. [r1/0]: workaround complete, before 2026-11-30"


def test_what_a_machine_says_does_not_move_the_cursor() -> None:
    issue = Issue("r1/0", "\x1b]0;x\x07\x1b[2J", True, options=(IssueOption("a\rb", (IssueStep("c\nd"),)),))
    assert list(issue_rows(issue)) == ["?]0;x??[2J [r1/0]: affected", "  a?b:", "    1. c?d: not known"]
