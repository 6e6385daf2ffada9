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
from hotmend.agent.issues import ISSUES_BYTES_MAX, ISSUES_MAX, Here, issues_here
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
    assert here.lines("/dev/zero") is None
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
    assert here.began_at("y") == ()


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


def test_there_are_not_more_than_a_report_takes() -> None:
    release = _release("r1", *(KnownIssue(f"Issue {number}", NOW) for number in range(ISSUES_MAX + 1)))
    assert len(issues_here([release], _found(release), TODAY)) == ISSUES_MAX


@pytest.mark.parametrize(("letters", "told"), [(RELEASE_LETTERS_MAX, 1), (RELEASE_LETTERS_MAX + 1, 0)])
def test_what_a_report_has_no_room_for_is_left_out(letters: int, told: int) -> None:
    release = _release("r" * letters, KnownIssue("It is slow.", NOW))
    found = issues_here([release], _found(release), TODAY)
    assert len(found) == told
    assert msgspec.json.decode(msgspec.json.encode(found), type=tuple[Issue, ...]) == found


def test_long_ones_do_not_make_a_report_too_long() -> None:
    """The newest come first, and what no longer fits is left out whole."""
    step = Step("Do it", Condition(linux=OnLinux(package="dpkg")), ("x" * 400,) * 50)
    long = [KnownIssue(f"Issue {n}", NOW, options=(Option("o", "O", (step,)),)) for n in range(10)]
    release = _release("r1", *long)
    found = issues_here([release], _found(release), TODAY)
    assert [issue.id for issue in found] == [f"r1/{n}" for n in range(len(found))]
    assert 0 < len(found) < len(long)
    assert len(msgspec.json.encode(found)) < ISSUES_BYTES_MAX + 1000


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
