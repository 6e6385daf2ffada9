"""What a report says of vulnerabilities: of what is patched, of what waits, and of what nobody knows."""

from __future__ import annotations

from datetime import UTC, datetime

from hotmend.agent.census.assessment import RunningProcess
from hotmend.agent.census.code_state import Patch, RunningImage
from hotmend.agent.census.owners import Owner, OwnerKind
from hotmend.agent.record.history import Action, Assessed, Waiting
from hotmend.agent.uplink.reporting import findings
from hotmend.servicing.actions import State
from hotmend.wire.report import Finding, Fixed

OLD, NEW = "aa" * 20, "bb" * 20
NOW = datetime(2026, 11, 29, tzinfo=UTC)
PATH = "/usr/sbin/nginx"
UPDATE = "openssl/openssl.0.hotmend"


def process(pid: int, patch: Patch | None = None) -> RunningProcess:
    image = RunningImage(PATH, OLD, False, PATH, OLD, patch)
    return RunningProcess(pid, "nginx", 1, Owner(OwnerKind.SERVICE, "nginx.service"), (image,))


def waiting(*cves: str, builds: tuple[str, ...] = (OLD,)) -> Assessed:
    return Assessed(
        at=NOW, waiting=(UPDATE,), restarts=(), reboot=(), known=(Waiting(UPDATE, cves, builds, "nginx=2"),)
    )


def test_what_waits_is_told_for_each_process_with_what_it_fixes() -> None:
    patch = Patch("id", NEW, "nginx", ("1", "2"), ("CVE-2026-0001",), 0.0)
    seen = [process(7), process(8, patch)]
    found = list(findings(seen, [waiting("CVE-2026-0001", "CVE-2026-0002")], [UPDATE]))
    assert found == [
        Finding("CVE-2026-0001", Fixed.IN_MEMORY, 8, "nginx", "nginx.service", PATH, "nginx=2"),
        Finding("CVE-2026-0001", Fixed.NOWHERE, 7, "nginx", "nginx.service", PATH, "nginx=2"),
        Finding("CVE-2026-0002", Fixed.NOWHERE, 7, "nginx", "nginx.service", PATH, "nginx=2"),
    ]


def test_what_is_kept_out_is_missing_all_the_same() -> None:
    seen = [waiting("CVE-2026-0001")]
    found = list(findings([process(7)], seen, [], [UPDATE, "vim=2"]))
    assert found == [Finding("CVE-2026-0001", Fixed.NOWHERE, 7, "nginx", "nginx.service", PATH, "nginx=2")]


def test_what_no_process_has_any_more_is_not_told() -> None:
    patch = Patch("id", NEW, "nginx", ("1", "2"), (), 0.0)
    found = list(findings([process(8, patch)], [waiting("CVE-2026-0001")], [UPDATE]))
    assert [each.fixed for each in found] == [Fixed.IN_MEMORY]


def test_of_an_update_that_was_tried_it_is_known_what_it_fixes() -> None:
    tried = Action(at=NOW, update="nginx=2", state=State.FAILED, cves=("CVE-2026-0001",), brings="nginx=2")
    again = Assessed(at=NOW, waiting=("nginx=2", "redis=3"), restarts=(), reboot=())
    found = list(findings([process(7)], [tried, again], ["nginx=2", "redis=3"]))
    assert found == [
        Finding("CVE-2026-0001", Fixed.NOWHERE, brings="nginx=2"),
        Finding("", Fixed.NOWHERE, brings="redis=3"),
    ]
