"""One look at this machine for whoever watches it: what runs, what is due, what its records say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hotmend.agent.census.alerts import Alert, AlertCode, Level, Record, record_alerts, worst
from hotmend.agent.census.assessment import Assessment, take_assessment
from hotmend.agent.census.never import Never
from hotmend.agent.census.restarts import Plan, plan_of
from hotmend.agent.configuration import read_configuration
from hotmend.agent.paths import Places
from hotmend.agent.record.history import Assessed, History
from hotmend.agent.record.hold import read_hold
from hotmend.agent.record.quarantine import read_quarantine
from hotmend.agent.record.withdrawn import last_withdrawn, sentences
from hotmend.agent.uplink.standing import standing


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen.

    Attributes:
        assessment: of processes, disk and kernel; what waits and what is withdrawn is what the agent saw last.
        plan: what takes processes with old code to the new.
        record: history, hold and quarantine.
    """

    assessment: Assessment
    plan: Plan
    record: Record

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """What is not as it should be, of both."""
        return (*self.assessment.alerts, *record_alerts(self.record, self.assessment.at))

    def level(self, levels: dict[AlertCode, Level]) -> Level:
        """Return how bad it is as a whole."""
        return worst(levels[alert.code] for alert in self.alerts)


def look(places: Places) -> Look:
    """Look at this machine. Nothing is asked of the network or of apt.

    Raises:
        InputError: configuration, quarantine, or what the server has said, cannot be read.
        OSError: the history cannot be read.
    """
    now = datetime.now(UTC)
    configuration = read_configuration(places.configuration)
    read = History(places.history).read()
    assessed = [event for event in read.events if isinstance(event, Assessed)]
    withdrawn = sentences(last_withdrawn(read.events))
    assessment = take_assessment(assessed[-1].waiting if assessed else (), now, withdrawn)
    record = Record(
        events=read.events,
        unreadable=read.unreadable,
        hold=read_hold(places.hold, now),
        quarantine=tuple(entry.update for entry in read_quarantine(places.quarantine)),
        turn=timedelta(minutes=configuration.assess_minutes),
        server=standing(places),
    )
    return Look(assessment, plan_of(assessment, Never(*configuration.never)), record)
