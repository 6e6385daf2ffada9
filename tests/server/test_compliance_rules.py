"""Exposures follow from reports: each begins with a report that has old code, and ends with one that has not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hotmend.server.compliance.rules import OLD, Changes, End, Subject, changes, subjects
from hotmend.wire.report import Finding, Fixed

FINDINGS = st.lists(
    st.builds(
        Finding,
        st.sampled_from(["CVE-2026-0001", "CVE-2026-0002", ""]),
        st.sampled_from(Fixed),
        brings=st.sampled_from(["openssl=1", "nginx=2", ""]),
    ),
    max_size=8,
)


def one(fixed: Fixed, cve: str = "CVE-2026-0001", brings: str = "openssl=1") -> Finding:
    return Finding(cve, fixed, brings=brings)


def test_old_code_in_one_process_is_enough() -> None:
    assert subjects([one(Fixed.IN_MEMORY), one(Fixed.ON_DISK)]) == {Subject("CVE-2026-0001", "openssl=1"): None}
    assert subjects([one(Fixed.IN_MEMORY), one(Fixed.EVERYWHERE)]) == {
        Subject("CVE-2026-0001", "openssl=1"): End.IN_MEMORY
    }
    assert subjects([Finding("", Fixed.NOWHERE)]) == {}  # it names nothing that could end


def test_an_update_that_waits_ends_with_what_it_brought() -> None:
    waits = changes({}, [one(Fixed.NOWHERE, "")])
    assert waits == Changes((Subject("openssl=1", "openssl=1"),), {}, {})
    done = changes({"openssl=1": True}, [one(Fixed.IN_MEMORY)])
    assert done.closed == {"openssl=1": End.IN_MEMORY}
    assert done.came_closed == {Subject("CVE-2026-0001", "openssl=1"): End.IN_MEMORY}


def test_an_update_goes_on_while_a_process_lacks_it() -> None:
    half = changes({"openssl=1": True}, [one(Fixed.IN_MEMORY), one(Fixed.ON_DISK)])
    assert half.closed == {}
    assert half.opened == (Subject("CVE-2026-0001", "openssl=1"),)


def test_what_is_spoken_of_no_more_is_gone_and_may_come_back() -> None:
    assert changes({"CVE-2026-0001": True}, []).closed == {"CVE-2026-0001": End.GONE}
    again = changes({"CVE-2026-0001": False}, [one(Fixed.ON_DISK)])
    assert again.opened == (Subject("CVE-2026-0001", "openssl=1"),)


@given(st.lists(FINDINGS, max_size=6))
def test_after_each_report_what_is_open_is_what_the_report_has_old(reports: list[list[Finding]]) -> None:
    state: dict[str, bool] = {}
    for report in reports:
        found = changes(state, report)
        assert all(state[name] for name in found.closed)
        assert not any(state.get(subject.name, False) for subject in found.opened)
        state |= dict.fromkeys(found.closed, False)
        state |= {subject.name: True for subject in found.opened}
        state |= {subject.name: False for subject in found.came_closed}
        old = {finding.cve or finding.brings for finding in report if finding.fixed in OLD} - {""}
        brings = {finding.brings for finding in report}
        is_open = {name for name, is_open in state.items() if is_open}
        assert old <= is_open
        assert is_open - old <= brings
        again = changes(state, report)
        assert again == Changes((), {}, {})
