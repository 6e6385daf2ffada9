"""All answers together: each part gets what it needs, and what has no channel has the rest."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

from hotmend.reference.shipped import data_text
from hotmend.servicing.enrollment import State
from hotmend.servicing.evaluate import evaluate
from hotmend.servicing.facts import AppliedHotpatch
from hotmend.servicing.products import catalogue_parse
from tests.servicing.machines import NEW, OLD, PROGRAM, at, changed, linux, machine, windows

NOW = at("2025-10-20")
SERVER = machine(windows())
ANY = """
[[product]]
id = "anything"
name = "Anything on x86-64"
channel = "Windows Server 2025"
match = { architecture = ["amd64"] }
"""


def test_the_moment_reaches_every_part() -> None:
    asked = {"windows__hotpatch__enablement": "PendingEvaluation", "windows__hotpatch__requested_at": NOW}
    pending = changed(SERVER, **asked)
    assert evaluate(pending, PROGRAM, NOW).enrollment.state is State.PENDING
    assert evaluate(pending, PROGRAM, NOW + timedelta(hours=1)).enrollment.state is State.ACTION_REQUIRED
    ending = changed(SERVER, windows__hotpatch__subscription_until=NOW)
    assert evaluate(ending, PROGRAM, NOW - timedelta(hours=1)).eligibility.eligible is True
    assert evaluate(ending, PROGRAM, NOW).eligibility.eligible is False


def test_what_has_no_channel_has_the_other_answers() -> None:
    found = evaluate(changed(SERVER, windows__build=20348), PROGRAM, NOW)
    assert found.eligibility.product is not None
    assert found.eligibility.product.id == "windows-server-2022"
    assert found.eligibility.eligible is False
    assert found.enrollment.state is State.NOT_ENROLLED
    assert (found.level, found.concerns, found.forecast, found.avoided) == (None, (), None, None)


def test_a_channel_of_another_platform_is_none() -> None:
    program = dataclasses.replace(PROGRAM, catalogue=catalogue_parse(data_text("products.toml") + ANY))
    foreign = machine(linux(distribution="ubuntu"))
    found = evaluate(foreign, program, NOW)
    assert found.eligibility.product is not None
    assert found.eligibility.product.id == "anything"
    assert (found.level, found.forecast) == (None, None)
    assert evaluate(changed(SERVER, windows__build=1), program, NOW).level is not None


def test_linux_has_all_answers() -> None:
    applied = AppliedHotpatch("a", OLD, NEW, units=("nginx.service",))
    found = evaluate(machine(linux(hotpatches=(applied,))), PROGRAM, NOW)
    assert found.level is not None
    assert found.forecast is not None
    assert found.avoided is not None
    assert (found.avoided.restarts, found.avoided.complete) == (1, True)
    assert found.concerns == ()


def test_a_reboot_that_is_pending_is_known_from_either_side() -> None:
    for facts, code in (
        (changed(SERVER, reboot_pending=True), "reboot-pending"),
        (changed(SERVER, reboot_pending=False), "baseline-missing"),
        (changed(SERVER, reboot_pending=None), "baseline-missing"),
    ):
        found = evaluate(facts, PROGRAM, NOW).forecast
        assert found is not None
        assert found.due[0].cause.code == code
