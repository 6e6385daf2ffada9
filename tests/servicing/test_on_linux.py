"""Conditions on Linux: each question, what cannot be told, and conditions that say nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotmend.servicing.known_issues import Condition, KnownIssue, LinuxSubject, Option, Step, check, concerns, holds
from hotmend.servicing.on_linux import OnLinux

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


@dataclass
class Machine:
    """A machine, as it is known; None: nothing is."""

    releases: dict[str, bool] | None = field(default_factory=dict)
    mapped: frozenset[str] | None = frozenset({"/usr/sbin/nginx"})
    packages: dict[str, int] | None = field(default_factory=lambda: {"nginx": 2})
    files: dict[str, tuple[str, ...] | None] = field(default_factory=dict)
    changed: datetime | None = NOON
    began: tuple[datetime, ...] | None = ()
    booted: datetime | None = NOON

    def hotpatched(self, release: str) -> bool | None:
        return None if self.releases is None else self.releases.get(release)

    def runs(self, path: str) -> bool | None:
        return None if self.mapped is None else path in self.mapped

    def installed(self, package: str, at_least: str) -> bool | None:
        if self.packages is None:
            return None
        return self.packages.get(package, 0) >= int(at_least or 1)

    def lines(self, path: str) -> tuple[str, ...] | None:
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]

    def changed_at(self, path: str) -> datetime | None:
        return self.changed

    def began_at(self, unit: str) -> tuple[datetime, ...] | None:
        return self.began

    def booted_at(self) -> datetime | None:
        return self.booted


def answer(question: OnLinux, machine: Machine) -> bool | None:
    return holds(Condition(linux=question), LinuxSubject(machine))


LATER, EARLIER = NOON + timedelta(seconds=1), NOON - timedelta(seconds=1)
CONF: dict[str, tuple[str, ...] | None] = {"/etc/x.conf": ("a  b;", "\tc d ;"), "/etc/secret": None}


@pytest.mark.parametrize(
    ("question", "machine", "expected"),
    [
        (OnLinux(hotpatched=("r1", "r2")), Machine({"r1": False, "r2": True}), True),
        (OnLinux(hotpatched=("r1", "r2")), Machine({"r1": False}), None),
        (OnLinux(hotpatched=("r1",)), Machine({"r1": False}), False),
        (OnLinux(hotpatched=("r1",)), Machine(None), None),
        (OnLinux(runs=("/usr/sbin/nginx",)), Machine(), True),
        (OnLinux(runs=("/usr/sbin/apache2",)), Machine(), False),
        (OnLinux(runs=("/usr/sbin/apache2",)), Machine(mapped=None), None),
        (OnLinux(package="nginx"), Machine(), True),
        (OnLinux(package="nginx", at_least="3"), Machine(), False),
        (OnLinux(package="apache2"), Machine(), False),
        (OnLinux(package="nginx"), Machine(packages=None), None),
        (OnLinux(file="/etc/x.conf"), Machine(files=CONF), True),
        (OnLinux(file="/etc/none"), Machine(files=CONF), False),
        (OnLinux(file="/etc/secret"), Machine(files=CONF), None),
        (OnLinux(file="/etc/x.conf", line="a b;"), Machine(files=CONF), True),
        (OnLinux(file="/etc/x.conf", line="c d;"), Machine(files=CONF), False),
        (OnLinux(file="/etc/none", line="a b;"), Machine(files=CONF), False),
        (OnLinux(unit="nginx", since="/etc/x.conf"), Machine(began=(LATER, LATER)), True),
        (OnLinux(unit="nginx", since="/etc/x.conf"), Machine(began=(EARLIER, LATER)), False),
        (OnLinux(unit="nginx", since="/etc/x.conf"), Machine(began=(NOON,)), False),
        (OnLinux(unit="nginx", since="/etc/x.conf", some=True), Machine(began=(EARLIER, LATER)), True),
        (OnLinux(unit="nginx", since="/etc/x.conf", some=True), Machine(began=(EARLIER,)), False),
        (OnLinux(unit="nginx", since="/etc/x.conf"), Machine(began=()), False),
        (OnLinux(unit="nginx", since="/etc/x.conf", some=True), Machine(began=()), False),
        (OnLinux(unit="nginx", since="/etc/x.conf"), Machine(began=None), None),
        (OnLinux(unit="nginx", since="/etc/x.conf"), Machine(began=(LATER,), changed=None), None),
        (OnLinux(booted_since="/etc/x.conf"), Machine(booted=LATER), True),
        (OnLinux(booted_since="/etc/x.conf"), Machine(booted=NOON), False),
        (OnLinux(booted_since="/etc/x.conf"), Machine(booted=None), None),
        (OnLinux(package="nginx", runs=("/usr/sbin/apache2",)), Machine(), False),
    ],
)
def test_questions(question: OnLinux, machine: Machine, expected: bool | None) -> None:
    assert answer(question, machine) is expected


def test_a_linux_machine_cannot_tell_what_is_asked_of_facts_nor_the_other_way_round() -> None:
    subject = LinuxSubject(Machine())
    assert holds(Condition(product=("windows-server-2025",)), subject) is None
    assert holds(Condition(product=("x",), linux=OnLinux(package="nginx")), subject) is None
    assert holds(Condition(product=("x",), linux=OnLinux(package="none")), subject) is False
    assert (
        holds(Condition(any_of=(Condition(line=("on",)), Condition(linux=OnLinux(package="nginx")))), subject) is True
    )


_WORDS = st.text("ab;{}", min_size=1, max_size=3)


@given(
    st.lists(_WORDS, min_size=1, max_size=4), st.lists(st.sampled_from(" \t"), min_size=1, max_size=3), st.booleans()
)
def test_a_line_is_found_however_it_is_spaced(words: list[str], spaces: list[str], other: bool) -> None:
    line = "".join(spaces) + "".join(spaces).join(words)
    machine = Machine(files={"/etc/x": ("x", f"{line} more" if other else line)})
    assert answer(OnLinux(file="/etc/x", line=" ".join(words)), machine) is not other


@pytest.mark.parametrize(
    ("question", "why"),
    [
        (OnLinux(), "says nothing"),
        (OnLinux(at_least="1"), "`at_least` needs `package`"),
        (OnLinux(line="x"), "`line` needs `file`"),
        (OnLinux(unit="nginx"), "`unit` needs `since`"),
        (OnLinux(since="/etc/x"), "`since` needs `unit`"),
        (OnLinux(package="x", some=True), "`some` needs `unit`"),
        (OnLinux(file="/etc/x", line="  "), "`line` is empty"),
        (OnLinux(file="/tmp/x"), "another folder"),
        (OnLinux(booted_since="/proc/kmsg"), "another folder"),
        (OnLinux(unit="x", since="/dev/null"), "another folder"),
    ],
)
def test_half_a_question_is_refused(question: OnLinux, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check([Condition(not_=Condition(linux=question))], [])


@pytest.mark.parametrize(
    "given", [{"file": "etc/x"}, {"file": "/etc/\x1b"}, {"package": "x\n"}, {"runs": ["nginx"]}, {"x": 1}]
)
def test_what_is_no_question_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(given, OnLinux)


def test_an_issue_of_a_linux_machine_has_steps_and_a_deadline() -> None:
    steps = (
        Step("Put it off", Condition(linux=OnLinux(file="/etc/x.conf", line="a b;")), ("sed ...",)),
        Step("Reload", Condition(linux=OnLinux(unit="nginx", since="/etc/x.conf", some=True))),
    )
    issue = KnownIssue(
        id="r/0",
        title="It is slow.",
        affected=Condition(linux=OnLinux(hotpatched=("r",))),
        since=date.min,
        until=date.max,
        cost="It stays slow.",
        source="",
        options=(Option("off", "Off", steps),),
        deadline=date(2026, 12, 1),
    )
    machine = Machine({"r": True}, files={})
    today = date(2026, 11, 30)

    def found(day: date = today) -> tuple[tuple[bool | None, ...], bool, bool]:
        (concern,) = concerns([issue], LinuxSubject(machine), day)
        return concern.options[0].proven, concern.done, concern.overdue

    assert found() == ((False, False), False, False)
    assert found(date(2026, 12, 1)) == ((False, False), False, True)
    machine.files = CONF
    assert found() == ((True, False), False, False)
    machine.began = (EARLIER, LATER)
    assert found(date(2026, 12, 1)) == ((True, True), True, False)
    machine.releases = {"r": False}
    assert concerns([issue], LinuxSubject(machine), today) == ()
