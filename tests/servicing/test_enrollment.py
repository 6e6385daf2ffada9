"""Enrollment: the table, walked; and where a machine stands by its facts."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotmend.servicing.eligibility import Eligibility, eligibility
from hotmend.servicing.enrollment import (
    PENDING_MAX,
    TRANSITIONS,
    Event,
    State,
    advance,
    diagram,
    enrollment,
    walk,
)
from hotmend.servicing.facts import MachineFacts
from tests.servicing.machines import BUSY, PROGRAM, at, because, changed, linux, machine, windows

NOW = at("2025-10-20")
SERVER, DEBIAN = machine(windows()), machine(linux())
AZURE = changed(
    SERVER,
    environment="azure",
    windows__edition="ServerTurbine",
    windows__vsm__vm_generation=2,
    windows__image__kind="marketplace",
    windows__image__publisher="MicrosoftWindowsServer",
    windows__image__offer="WindowsServer",
    windows__image__sku="2025-Datacenter-Azure-Edition",
    windows__hotpatch__enablement=None,
)


def _eligible(facts: MachineFacts) -> Eligibility:
    return eligibility(facts, PROGRAM.catalogue, PROGRAM.calendar, NOW)


def _asked(status: str, minutes: int | None = None) -> dict[str, object]:
    since = None if minutes is None else NOW - timedelta(minutes=minutes)
    return {"windows__hotpatch__enablement": status, "windows__hotpatch__requested_at": since}


_LINUX_OFF = {"linux__enablement": "Disabled", "linux__requested_at": NOW - timedelta(days=9)}


@pytest.mark.parametrize(
    ("facts", "state", "code", "text", "remedy"),
    [
        (SERVER, State.ENABLED, "enabled", "Hotpatch is enabled.", ""),
        (
            *(changed(SERVER, **_asked("PendingEvaluation", 10)), State.PENDING, "pending"),
            *("Enabling is pending since 2025-10-20 11:50:00+00:00; it takes about ten minutes.", ""),
        ),
        (
            *(changed(SERVER, **_asked("PendingEvaluation", 11)), State.ACTION_REQUIRED, "pending-too-long"),
            "Enabling has been pending since 2025-10-20 11:49:00+00:00, longer than ten minutes: agent trouble,"
            " or the licence bug of October 2025.",
            "pending-stuck",
        ),
        (
            *(changed(SERVER, **_asked("PendingEvaluation")), State.PENDING, "pending-since-unknown"),
            *("Enabling is pending, since when is not known; look again in ten minutes.", ""),
        ),
        (
            *(changed(SERVER, **_asked("Disabled")), State.NOT_ENROLLED, "not-enrolled"),
            *("Hotpatch was not enabled on this machine.", ""),
        ),
        (
            *(changed(SERVER, **_asked("Disabled", 5000)), State.DISABLED, "disabled"),
            *("Hotpatch is switched off.", ""),
        ),
        (
            *(changed(SERVER, **_asked("ActionRequired", 60)), State.ACTION_REQUIRED, "enabling-failed"),
            *("Enabling failed.", "pending-stuck"),
        ),
        (
            *(changed(SERVER, **_asked("Unknown")), None, "enrollment-unknown"),
            *("Whether Hotpatch is enabled is not known.", ""),
        ),
        (
            *(changed(SERVER, windows__hotpatch__enablement=None), None, "enrollment-unknown"),
            *("Whether Hotpatch is enabled is not known.", ""),
        ),
        (
            *(changed(SERVER, windows__vsm__status=1), State.ACTION_REQUIRED, "vsm-not-met"),
            *("VirtualizationBasedSecurityStatus is 1; 2 (running) is needed.", ""),
        ),
        (
            *(
                changed(SERVER, windows__vsm__status=1, **_asked("Disabled", 9999)),
                State.ACTION_REQUIRED,
                "vsm-not-met",
            ),
            *("VirtualizationBasedSecurityStatus is 1; 2 (running) is needed.", ""),
        ),
        (
            *(changed(SERVER, windows__vsm__status=1, **_asked("Disabled")), State.NOT_ENROLLED, "not-enrolled"),
            *("Hotpatch was not enabled on this machine.", ""),
        ),
        (
            *(changed(SERVER, windows__vsm__status=None), State.ENABLED, "enabled"),
            *("Hotpatch is enabled.", ""),
        ),
        (
            *(changed(SERVER, windows__hotpatch__feature_licence_lapsed=True), State.ACTION_REQUIRED),
            *("subscription-not-met", "The machine's licence for Hotpatch has lapsed: its next update is not a", ""),
        ),
        (
            # What is switched off does not lapse.
            *(changed(SERVER, windows__hotpatch__subscription="Disabled", **_asked("Disabled", 9)), State.DISABLED),
            *("disabled", "Hotpatch is switched off.", ""),
        ),
        (
            *(changed(DEBIAN, linux__entitlement_needed=True, linux__entitled_until=NOW, **_LINUX_OFF), State.DISABLED),
            *("disabled", "Hotpatch is switched off.", ""),
        ),
        (AZURE, State.ENABLED, "enabled", "Hotpatch is enabled.", ""),
        (
            *(changed(AZURE, windows__vsm__secure_boot=False), State.ACTION_REQUIRED, "secure-boot-not-met"),
            *("Secure Boot is off.", ""),
        ),
        (
            *(changed(AZURE, **_asked("Disabled")), State.DISABLED, "disabled"),
            *("Hotpatch is switched off.", ""),
        ),
        (
            *(changed(SERVER, windows__edition="Professional", windows__installation="Client"), State.NOT_ENROLLED),
            *("product-not-supported", "Only Windows 11 Enterprise from 24H2 on has Hotpatch; Pro and all other", ""),
        ),
        (
            *(changed(SERVER, windows__build=1), State.NOT_ENROLLED, "product-not-listed"),
            *("The catalogue has no such product.", ""),
        ),
        (DEBIAN, State.ENABLED, "enabled", "Hotpatch is enabled.", ""),
        (
            *(changed(DEBIAN, linux__enablement="PendingEvaluation"), State.PENDING, "pending-since-unknown"),
            *("Enabling is pending, since when is not known; look again in ten minutes.", ""),
        ),
        (
            *(
                changed(DEBIAN, linux__enablement="PendingEvaluation", linux__requested_at=NOW - timedelta(hours=1)),
                State.ACTION_REQUIRED,
            ),
            *("pending-too-long", "Enabling has been pending since 2025-10-20 11:00:00+00:00, longer", "pending-stuck"),
        ),
        (
            *(changed(DEBIAN, linux__entitlement_needed=True, linux__entitled_until=NOW), State.ACTION_REQUIRED),
            *("entitlement-not-met", "The entitlement ends on 2025-10-20.", ""),
        ),
    ],
)
def test_where_a_machine_stands(facts: MachineFacts, state: State | None, code: str, text: str, remedy: str) -> None:
    found = enrollment(facts, _eligible(facts), NOW)
    assert (found.state, found.remedy) == (state, remedy)
    (cause,) = because(found.causes)
    assert cause[0] == code
    assert cause[1].startswith(text)
    assert not remedy or remedy in PROGRAM.remedies


def test_every_prerequisite_that_was_lost_is_told() -> None:
    facts = changed(SERVER, windows__vsm__status=0, windows__vsm__uefi=False, windows__arc__connected=None)
    found = enrollment(facts, _eligible(facts), NOW)
    assert [code for code, _ in because(found.causes)] == ["uefi-not-met", "vsm-not-met"]


def test_ten_minutes_are_the_limit() -> None:
    assert timedelta(minutes=10) == PENDING_MAX


@BUSY
@given(st.lists(st.sampled_from(Event), max_size=12))
def test_whatever_happens_the_table_decides(events: list[Event]) -> None:
    state = State.NOT_ENROLLED
    for event in events:
        after = advance(state, event)
        assert after == TRANSITIONS.get((state, event))
        state = after or state
    assert walk(events) is state


def test_action_required_is_reached_from_every_state_and_left_again() -> None:
    into = {state for (state, _), after in TRANSITIONS.items() if after is State.ACTION_REQUIRED}
    assert into == set(State) - {State.ACTION_REQUIRED}
    reached, found = {State.NOT_ENROLLED}, set[State]()
    while found != reached:
        found = set(reached)
        reached |= {after for (state, _), after in TRANSITIONS.items() if state in found}
    assert reached == set(State)
    assert all(any(state is each for state, _ in TRANSITIONS) for each in State)


def test_what_lapses_only_follows_where_it_can() -> None:
    assert advance(State.ENABLED, Event.LICENCE_LAPSED) is State.ACTION_REQUIRED
    assert advance(State.NOT_ENROLLED, Event.LICENCE_LAPSED) is None
    assert advance(State.CANCELED, Event.CONFIRMED) is None
    assert walk([Event.CONFIRMED, Event.REQUESTED, Event.CONFIRMED, Event.SWITCHED_OFF]) is State.DISABLED


def test_the_diagram_draws_every_transition() -> None:
    lines = diagram().split("\n")
    assert lines[:3] == ["stateDiagram-v2", "    [*] --> NOT_ENROLLED", "    NOT_ENROLLED --> PENDING: requested"]
    assert len(lines) == len(TRANSITIONS) + 2
    assert "    ACTION_REQUIRED --> PENDING: remedied" in lines
