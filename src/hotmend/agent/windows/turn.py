"""One turn of a Windows machine: ask the server, do what is due, tell it, and say how the machine is."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from hotmend import __version__
from hotmend.agent.uplink.carrying import check_in
from hotmend.agent.uplink.files import Outbox, read, write
from hotmend.agent.uplink.letters import Opened, open_letter, to_do
from hotmend.agent.windows.automatic import automatic, last
from hotmend.agent.windows.doing import Hands, perform
from hotmend.agent.windows.host import boot_name
from hotmend.agent.windows.places import WindowsPlaces
from hotmend.model.errors import RemoteError, UsageError
from hotmend.servicing.evaluate import evaluate
from hotmend.servicing.facts_json import facts_encode
from hotmend.windows.facts import collect
from hotmend.wire.judged import judged
from hotmend.wire.report import FACTS_BYTES_MAX, Report

REPORT_LIFE: Final = timedelta(hours=4)
"""How long a report is taken to hold where nothing was done: to ask what is offered takes the update agent minutes."""


class Turns:
    """Turns of one machine, one after the other.

    Args:
        places: of this machine.
        hands: what it acts with.
    """

    def __init__(self, places: WindowsPlaces, hands: Hands) -> None:
        self._places, self._hands = places, hands
        self._reported: datetime | None = None

    def take(self) -> int:
        """Take one turn, and return how many orders have ended.

        Raises:
            UsageError: this machine is nobody's.
            RemoteError: the server refuses, or cannot be reached: what it asked for is not done without it, and what
                its last policy lets this machine do by itself is.
            InputError: an answer is not signed by the pinned key, or a file cannot be read.
            OSError: a file cannot be written.
        """
        unreached: RemoteError | None = None
        if self._reported is None or self._hands.now() - self._reported > REPORT_LIFE:
            self._tell(full=True)
        try:
            self._carry()
        except RemoteError as error:
            unreached = error
        wanted = open_letter(self._places, self._hands.now())
        if wanted is None:
            raise UsageError("this machine is not enrolled anywhere", "hotmend enroll URL")
        ended = 0
        for order in () if unreached else to_do(wanted, self._hands.ledger.ended()):
            ended += perform(self._hands, order, wanted)
            self._tell(wanted)
        by_itself = automatic(self._hands, wanted)
        if ended or by_itself is not None:
            self._tell(wanted, full=True)
            if unreached is None:
                self._carry()
        if unreached is not None:
            raise unreached
        return ended

    def _carry(self) -> None:
        check_in(self._places, lambda: self._hands.now().timestamp(), boot=boot_name(self._hands.sources.machine))

    def _tell(self, wanted: Opened | None = None, *, full: bool = False) -> None:
        before = read(self._places.outbox, Outbox) or Outbox()
        told = replace(before, policy=wanted.policy_hash) if wanted is not None else before
        if full:
            minutes = int(REPORT_LIFE / timedelta(minutes=1))
            told = replace(told, report=self._report(), looked_at=self._reported, look_minutes=minutes)
        self._places.outbox.parent.mkdir(parents=True, exist_ok=True)
        write(self._places.outbox, replace(told, reached=self._hands.ledger.reached()))

    def _report(self) -> Report:
        hands = self._hands
        facts = collect(hands.sources).facts
        self._reported = hands.now()
        own = last(hands)
        report, body = judged(facts, evaluate(facts, hands.program, hands.now()), __version__), facts_encode(facts)
        report = replace(report, last_run=f"{own.state} {own.detail}".rstrip()[:500] if own is not None else "")
        return replace(report, facts=body) if len(body) <= FACTS_BYTES_MAX else report
