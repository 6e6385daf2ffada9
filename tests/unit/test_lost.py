"""Fixes that were in memory and are not any more, as after a reboot onto a disk that never got them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from hotmend.agent.census.alerts import AlertCode, Record, record_alerts
from hotmend.agent.census.assessment import Assessment
from hotmend.agent.record.history import Action, Lost, OldProcess, Reverted
from hotmend.agent.record.lost import lost_now
from hotmend.agent.report.telling import told
from hotmend.agent.turn import assessed
from hotmend.servicing.actions import State
from tests.unit.test_assessment import NEW, OLD, PATCH, QUIET, image, process

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
FIXED = Action(
    update="nginx=2",
    state=State.SUCCEEDED,
    cves=("CVE-2026-0001",),
    hotpatches=(PATCH.id,),
    old_builds=(OLD,),
)
LOST = Lost("nginx=2", ("CVE-2026-0001",), ("nginx (7)",))
AGAIN = process(7, image(OLD, OLD))


def test_a_boot_onto_an_old_disk_is_told() -> None:
    """Patched before the boot; after it the same file runs as it is on the disk."""
    before = process(3, image(OLD, OLD, patch=PATCH))
    assert lost_now([FIXED], [before]) == ()
    assert lost_now([FIXED], [before, AGAIN]) == lost_now([FIXED], [AGAIN]) == (LOST,)
    assert lost_now([FIXED], [process(7, image(NEW, NEW))]) == ()
    line = assessed(Assessment(NOW, (AGAIN,), (), QUIET), (), (), lost=lost_now([FIXED], [AGAIN]))
    assert line.alerts == (AlertCode.LOST,)
    assert "lost: nginx=2 in nginx (7)" in told(line)
    (alert,) = record_alerts(Record((FIXED, line), (), None, (), timedelta(hours=1)), NOW)
    assert (alert.code, alert.subjects) == (AlertCode.LOST, ("nginx=2 (CVE-2026-0001): nginx (7)",))
    well = assessed(Assessment(NOW, (), (), QUIET), (), ())
    assert list(record_alerts(Record((FIXED, line, well), (), None, (), timedelta(hours=1)), NOW)) == []


def _with(**fields: object) -> Action:
    return msgspec.structs.replace(FIXED, **fields)


@pytest.mark.parametrize(
    ("events", "lost"),
    [
        ((), ()),
        ((FIXED,), (LOST,)),
        ((FIXED, _with(state=State.ROLLED_BACK)), ()),
        ((FIXED, _with(state=State.ROLLED_BACK), FIXED), (LOST,)),
        ((FIXED, Reverted(hotpatches=(PATCH.id,), processes=())), ()),
        ((FIXED, Reverted(hotpatches=("another",), processes=())), (LOST,)),
        ((FIXED, _with(state=State.CANCELED, hotpatches=())), (LOST,)),
        ((FIXED, _with(state=State.VERIFYING, hotpatches=())), (LOST,)),
        ((FIXED, _with(state=State.BLOCKED)), (LOST,)),
        ((_with(cves=()),), ()),
        ((_with(state=State.SUCCEEDED_WITH_WARNINGS, old=(OldProcess(1, "nginx", "", (), part=False),)),), ()),
    ],
)
def test_only_what_was_in_memory_and_not_taken_back_can_be_lost(
    events: tuple[Action | Reverted, ...], lost: tuple[Lost, ...]
) -> None:
    assert lost_now(events, [AGAIN]) == lost


def test_another_hotpatch_of_the_same_build_is_no_loss() -> None:
    newer = replace(PATCH, id="newer")
    assert lost_now([FIXED], [process(7, image(OLD, OLD, patch=newer))]) == ()
