"""The shapes of `hotmend check --json`, and how answers become them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from hotmend.reference.texts import Reader
from hotmend.servicing.avoided import Avoided
from hotmend.servicing.enrollment import Enrollment
from hotmend.servicing.evaluate import Answers, Program
from hotmend.servicing.facts import MachineFacts
from hotmend.servicing.forecast import Due, Forecast
from hotmend.servicing.install import HARMLESS, Effect
from hotmend.servicing.known_issues import Concern, Progress
from hotmend.servicing.level import Level
from hotmend.servicing.maintenance import Policy, intervals, may_start
from hotmend.servicing.message import Cause, Message, cause
from hotmend.servicing.prerequisites import Check
from hotmend.servicing.releases import Release
from hotmend.servicing.selection import Choice, choose

WINDOWS_AHEAD: Final = timedelta(days=400)
WINDOWS_SHOWN: Final = 3
LEAST_TIME: Final = timedelta(minutes=1)
"""`allowed` is about this much time; what an installation takes is known to whoever runs it."""


class CauseShape(msgspec.Struct, frozen=True):
    """A reason."""

    code: str
    text: str


class RemedyShape(msgspec.Struct, frozen=True):
    """What can be done."""

    id: str
    title: str
    commands: tuple[str, ...]
    risk: str
    restart: str
    verify: str


class CheckShape(msgspec.Struct, frozen=True):
    """One prerequisite."""

    name: str
    holds: bool | None
    found: str
    remedy: RemedyShape | None


class ReleaseShape(msgspec.Struct, frozen=True):
    """A release."""

    id: str
    label: str
    kind: str
    build: str
    published: date | None
    confidence: str
    source: str


class LevelShape(msgspec.Struct, frozen=True):
    """The update level."""

    line: str
    baseline: ReleaseShape | None
    hotpatch: ReleaseShape | None
    pending: tuple[ReleaseShape, ...]
    causes: tuple[CauseShape, ...]


class DueShape(msgspec.Struct, frozen=True):
    """One reboot or restart to come."""

    day: date
    need: str
    month: str
    expected: bool
    cause: CauseShape


class ForecastShape(msgspec.Struct, frozen=True):
    """Reboots and restarts to come."""

    until: date
    due: tuple[DueShape, ...]
    due_with_workaround: tuple[DueShape, ...]
    next_hotpatch: date | None


class StepShape(msgspec.Struct, frozen=True):
    """One step of a workaround."""

    title: str
    commands: tuple[str, ...]
    reboot: bool
    proven: bool | None


class OptionShape(msgspec.Struct, frozen=True):
    """One workaround."""

    id: str
    title: str
    remedy: str
    done: bool
    steps: tuple[StepShape, ...]


class IssueShape(msgspec.Struct, frozen=True):
    """A known issue."""

    id: str
    title: str
    affected: bool | None
    deadline: date | None
    overdue: bool
    until: date
    cost: str
    options: tuple[OptionShape, ...]
    source: str


class AvoidedShape(msgspec.Struct, frozen=True):
    """What was avoided so far."""

    reboots: int
    restarts: int
    reboots_had: int
    uncounted: int
    complete: bool
    exposure_days: tuple[tuple[str, int], ...]


class EffectShape(msgspec.Struct, frozen=True):
    """What installing an update would do."""

    id: str
    outcome: str
    refused: bool
    reboot: bool | None
    causes: tuple[CauseShape, ...]


class WindowShape(msgspec.Struct, frozen=True):
    """When a maintenance window is open, in the machine's zone."""

    name: str
    start: datetime
    end: datetime


class ChoiceShape(msgspec.Struct, frozen=True):
    """What happens with an offered update."""

    id: str
    title: str
    deed: str
    cause: CauseShape


class MaintenanceShape(msgspec.Struct, frozen=True):
    """Windows and offered updates."""

    zone: str | None
    allowed: bool
    cause: CauseShape
    windows: tuple[WindowShape, ...]
    choices: tuple[ChoiceShape, ...] | None
    assessed_at: datetime | None


class AnswerShape(msgspec.Struct, frozen=True):
    """Everything about one machine."""

    machine: str
    at: datetime
    origin: str
    product: str | None
    product_name: str | None
    eligible: bool | None
    causes: tuple[CauseShape, ...]
    prerequisites: tuple[CheckShape, ...]
    enrollment: str | None
    enrollment_causes: tuple[CauseShape, ...]
    enrollment_remedy: RemedyShape | None
    level: LevelShape | None
    forecast: ForecastShape | None
    avoided: AvoidedShape | None
    issues: tuple[IssueShape, ...]
    effects: tuple[EffectShape, ...]
    level_after: LevelShape | None
    maintenance: MaintenanceShape
    plan: tuple[str, ...]
    managers: dict[str, str] | None
    unread: dict[str, str]


class Shaper:
    """Makes shapes of answers, in one language."""

    def __init__(self, reader: Reader, program: Program) -> None:
        self._reader = reader
        self._program = program

    def answer(
        self,
        facts: MachineFacts,
        answers: Answers,
        effects: Sequence[Effect],
        after: Level | None,
        policy: Policy,
        at: datetime,
    ) -> AnswerShape:
        """Return everything about one machine."""
        eligible = answers.eligibility
        shape = AnswerShape(
            machine=facts.machine or "",
            at=at,
            origin=facts.origin,
            product=eligible.product.id if eligible.product else None,
            product_name=self._reader.text(eligible.product.name) if eligible.product else None,
            eligible=eligible.eligible,
            causes=self._causes(eligible.causes),
            prerequisites=tuple(map(self._check, eligible.checks)),
            enrollment=answers.enrollment.state,
            enrollment_causes=self._causes(answers.enrollment.causes),
            enrollment_remedy=self._remedy(answers.enrollment.remedy),
            level=self._level(answers.level),
            forecast=self._forecast(answers.forecast),
            avoided=_avoided(answers.avoided),
            issues=tuple(map(self._issue, answers.concerns)),
            effects=tuple(map(self._effect, effects)),
            level_after=self._level(after),
            maintenance=self._maintenance(facts, policy, at),
            plan=(),
            managers={str(name): text for name, text in facts.managers.items()} if facts.managers is not None else None,
            unread=facts.unread,
        )
        return msgspec.structs.replace(shape, plan=tuple(self._plan(shape, answers.enrollment)))

    def _plan(self, shape: AnswerShape, enrollment: Enrollment) -> Iterable[str]:
        """Yield what to do, in order: prerequisites, enabling, workarounds, and then what is due."""
        say = self._reader.text
        lacking = [check.remedy for check in shape.prerequisites if check.holds is not True and check.remedy]
        for remedy in dict.fromkeys(remedy.id for remedy in lacking):
            yield next(each.title for each in lacking if each.id == remedy)
        if shape.eligible and enrollment.state == "NOT_ENROLLED":
            yield say("Enable Hotpatch")
        if shape.enrollment_remedy:
            yield shape.enrollment_remedy.title
        for issue in shape.issues:
            if issue.options and not any(option.done for option in issue.options) and not issue.overdue:
                titles = f" {say('or')} ".join(option.title for option in issue.options)
                yield f"{titles}, {say('before')} {self._reader.day(issue.deadline or issue.until)}"
        if shape.forecast:
            for due in shape.forecast.due_with_workaround:
                yield f"{self._reader.day(due.day)}: {say(due.need)}. {due.cause.text}"

    def _maintenance(self, facts: MachineFacts, policy: Policy, at: datetime) -> MaintenanceShape:
        zone = ZoneInfo(facts.time_zone) if facts.time_zone else None
        found = intervals(policy, zone, at, at + WINDOWS_AHEAD) if zone else ()
        decision = may_start(found, at, LEAST_TIME)
        why = cause("time-zone-unknown", "The machine's time zone is not known: no maintenance window is ever open.")
        if zone is not None:
            values = decision.cause.message.values.items()
            local = {name: value.astimezone(zone) if isinstance(value, datetime) else value for name, value in values}
            why = Cause(decision.cause.code, Message(decision.cause.message.text, local))
        choices = None if facts.offered is None else tuple(self._choice(choose(o, policy)) for o in facts.offered)
        shown = tuple(
            WindowShape(each.name, each.start.astimezone(zone), each.end.astimezone(zone))
            for each in found[:WINDOWS_SHOWN]
        )
        return MaintenanceShape(
            facts.time_zone, decision.allowed, self._causes([why])[0], shown, choices, facts.assessed_at
        )

    def _choice(self, choice: Choice) -> ChoiceShape:
        return ChoiceShape(choice.offer.id, choice.offer.title or "", choice.deed, self._causes([choice.cause])[0])

    def _causes(self, causes: Iterable[Cause]) -> tuple[CauseShape, ...]:
        return tuple(CauseShape(each.code, self._reader.write(each.message)) for each in causes)

    def _remedy(self, name: str) -> RemedyShape | None:
        remedy = self._program.remedies.get(name)
        if remedy is None:
            return None
        say = self._reader.text
        return RemedyShape(
            remedy.id, say(remedy.title), remedy.commands, say(remedy.risk), remedy.restart, say(remedy.verify)
        )

    def _check(self, check: Check) -> CheckShape:
        return CheckShape(check.name, check.holds, self._reader.write(check.found), self._remedy(check.remedy))

    def _level(self, level: Level | None) -> LevelShape | None:
        if level is None:
            return None
        return LevelShape(
            level.line,
            _release(level.baseline),
            _release(level.hotpatch),
            tuple(filter(None, map(_release, level.pending))),
            self._causes(level.causes),
        )

    def _due(self, due: Due) -> DueShape:
        return DueShape(due.day, due.need, due.month, due.expected, self._causes([due.cause])[0])

    def _forecast(self, forecast: Forecast | None) -> ForecastShape | None:
        if forecast is None:
            return None
        return ForecastShape(
            forecast.until,
            tuple(map(self._due, forecast.due)),
            tuple(map(self._due, forecast.due_with_workaround)),
            forecast.next_hotpatch,
        )

    def _issue(self, concern: Concern) -> IssueShape:
        issue, say = concern.issue, self._reader.text
        return IssueShape(
            issue.id,
            say(issue.title),
            concern.affected,
            issue.deadline,
            concern.overdue,
            issue.until,
            say(issue.cost),
            tuple(map(self._option, concern.options)),
            issue.source,
        )

    def _option(self, progress: Progress) -> OptionShape:
        option, say = progress.option, self._reader.text
        steps = tuple(
            StepShape(say(step.title), step.commands, step.reboot, proven)
            for step, proven in zip(option.steps, progress.proven, strict=True)
        )
        return OptionShape(option.id, say(option.title), option.remedy, progress.done, steps)

    def _effect(self, effect: Effect) -> EffectShape:
        return EffectShape(
            effect.id, effect.outcome, effect.outcome not in HARMLESS, effect.reboot, self._causes(effect.causes)
        )


def _release(release: Release | None) -> ReleaseShape | None:
    if release is None:
        return None
    return ReleaseShape(
        release.id, release.label, release.kind, release.build, release.published, release.confidence, release.source
    )


def _avoided(avoided: Avoided | None) -> AvoidedShape | None:
    if avoided is None:
        return None
    return AvoidedShape(
        avoided.reboots,
        avoided.restarts,
        avoided.reboots_had,
        avoided.uncounted,
        avoided.complete,
        tuple((each.id, each.days) for each in avoided.exposures),
    )
