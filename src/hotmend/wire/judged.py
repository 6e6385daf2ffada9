"""What the rules say of a machine's facts, in the form of a report: a Windows machine's, or one's without an agent."""

from __future__ import annotations

from hotmend.servicing.evaluate import Answers
from hotmend.servicing.facts import MachineFacts
from hotmend.servicing.forecast import Need
from hotmend.wire.report import Managed, Notice, Prerequisite, Report


def judged(given: MachineFacts, answers: Answers, agent: str = "") -> Report:
    """Return what the rules say of facts; `agent`: the version of hotmend that speaks for the machine, if one does."""
    level, forecast, avoided = answers.level, answers.forecast, answers.avoided
    product = answers.eligibility.product
    names = [release.id for release in (level.baseline, level.hotpatch) if release] if level else []
    due = forecast.due if forecast else ()
    today = given.collected_at.date()
    return Report(
        release=product.name if product else "",
        kernel="",
        architecture=given.architecture or "",
        zone=given.time_zone or "",
        agent=agent,
        level=", ".join(names),
        line=level.line.value if level else "unknown",
        enrollment=answers.enrollment.state.value if answers.enrollment.state else "",
        why=tuple(str(cause.message)[:500] for cause in (*(level.causes if level else ()), *answers.enrollment.causes)),
        prerequisites=tuple(
            Prerequisite(check.name, check.holds, str(check.cause.message)[:500])
            for check in answers.eligibility.checks
        ),
        waiting=tuple(offer.id for offer in given.offered or ()),
        reboot=tuple(
            f"{each.day}: {each.cause.message}"[:500] for each in due if each.need is Need.REBOOT and each.day <= today
        ),
        reboots_avoided=avoided.reboots if avoided else 0,
        restarts_avoided=avoided.restarts if avoided else 0,
        alerts=tuple(Notice("known-issue", concern.issue.id[:500]) for concern in answers.concerns if not concern.done),
        managers=tuple(Managed(name, detail[:500]) for name, detail in (given.managers or {}).items())[:50],
    )
