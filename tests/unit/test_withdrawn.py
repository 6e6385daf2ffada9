"""What was taken from a channel and withdrawn since, and that it raises an alert where it runs, and only there."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hotmend.agent.census.alerts import AlertCode
from hotmend.agent.census.assessment import Assessment, RunningProcess, find_alerts
from hotmend.agent.census.owners import NOBODY
from hotmend.agent.record.history import Action, AnyEvent, Assessed, Withdrawn
from hotmend.agent.record.withdrawn import last_withdrawn, sentences, withdrawn_now
from hotmend.servicing.actions import State
from tests.unit.test_assessment import NEW, PATCH, QUIET, image

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def action(update: str, *hotpatches: str, release: str = "r") -> Action:
    return Action(update=update, state=State.SUCCEEDED, release=release, hotpatches=hotpatches)


def seen(*withdrawn: Withdrawn) -> Assessed:
    return Assessed(waiting=(), restarts=(), reboot=(), withdrawn=withdrawn)


HISTORY: tuple[AnyEvent, ...] = (action("a/1", "one"), action("b/1", "two"), action("nginx=2", "three", release=""))


def test_only_what_was_taken_and_is_withdrawn() -> None:
    said = {"a/1": "wrong answers", "b/1": "", "c/1": "never taken"}
    assert withdrawn_now(HISTORY, said) == (Withdrawn("a/1", "wrong answers", ("one",)),)
    assert sentences(withdrawn_now(HISTORY, said)) == {"one": "a/1: wrong answers"}


def test_what_the_source_does_not_know_stays_as_it_was_until_it_stands_again() -> None:
    before = (*HISTORY, seen(Withdrawn("a/1", "wrong answers", ("one",))))
    assert withdrawn_now(before, {}) == last_withdrawn(before) != ()
    assert withdrawn_now(before, {"a/1": ""}) == ()
    assert last_withdrawn((*before, seen())) == ()


def test_it_is_an_alert_where_it_runs() -> None:
    patch = replace(PATCH, id="one")
    process = RunningProcess(7, "shop", 1, NOBODY, (image(disk=NEW, patch=patch),))
    assessment = Assessment(NOW, (process,), (), QUIET, withdrawn={"one": "a/1: wrong answers"})
    (alert,) = [alert for alert in find_alerts(assessment) if alert.code is AlertCode.WITHDRAWN]
    assert alert.subjects == ("shop (7): a/1: wrong answers",)
    for other in (replace(assessment, withdrawn={"two": "b/1: x"}), replace(assessment, processes=())):
        assert AlertCode.WITHDRAWN not in {alert.code for alert in find_alerts(other)}
