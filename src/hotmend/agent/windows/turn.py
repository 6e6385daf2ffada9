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
from hotmend.agent.windows.reboot import Reboot, afterwards
from hotmend.model.errors import RemoteError, UsageError
from hotmend.servicing.actions import State
from hotmend.servicing.evaluate import evaluate
from hotmend.servicing.facts_json import facts_encode
from hotmend.windows.facts import collect
from hotmend.wire.judged import judged
from hotmend.wire.messages import Order
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
        self._reboot = Reboot(places, hands)
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
        self._reboot.look_back()
        if self._reported is None or self._hands.now() - self._reported > REPORT_LIFE:
            self._tell(full=True)
        try:
            self._carry()
        except RemoteError as error:
            unreached = error
        wanted = self._opened()
        ended: list[tuple[Order, State]] = []
        for order in () if unreached else to_do(wanted, self._hands.ledger.ended()):
            if perform(self._hands, order, wanted):
                ended.append((order, self._hands.ledger.last(order)))
            self._tell(wanted)
        by_itself = automatic(self._hands, wanted)
        after = afterwards(wanted, ended, by_itself)
        asks = self._reboot.step(wanted, after, heard=unreached is None)
        if ended or by_itself is not None or asks:
            self._tell(wanted, full=bool(ended or by_itself is not None))
            if unreached is None:
                self._carry()
                if asks:
                    self._reboot.step(self._opened(), after, heard=True)
        self._tell(wanted)
        if unreached is not None:
            raise unreached
        return len(ended)

    def _opened(self) -> Opened:
        wanted = open_letter(self._places, self._hands.now())
        if wanted is None:
            raise UsageError("this machine is not enrolled anywhere", "hotmend enroll URL")
        return wanted

    def _carry(self) -> None:
        check_in(self._places, lambda: self._hands.now().timestamp(), boot=boot_name(self._hands.sources.machine))

    def _tell(self, wanted: Opened | None = None, *, full: bool = False) -> None:
        before = read(self._places.outbox, Outbox) or Outbox()
        told = replace(before, policy=wanted.policy_hash) if wanted is not None else before
        if full:
            minutes = int(REPORT_LIFE / timedelta(minutes=1))
            told = replace(told, report=self._report(), looked_at=self._reported, look_minutes=minutes)
        elif told.report is not None:
            told = replace(told, report=replace(told.report, last_run=self._last_run()))
        self._places.outbox.parent.mkdir(parents=True, exist_ok=True)
        write(self._places.outbox, replace(told, reached=self._hands.ledger.reached()))

    def _report(self) -> Report:
        hands = self._hands
        facts = collect(hands.sources).facts
        self._reported = hands.now()
        report, body = judged(facts, evaluate(facts, hands.program, hands.now()), __version__), facts_encode(facts)
        report = replace(report, last_run=self._last_run())
        return replace(report, facts=body) if len(body) <= FACTS_BYTES_MAX else report

    def _last_run(self) -> str:
        own = last(self._hands)
        done = f"{own.state} {own.detail}".rstrip() if own is not None else ""
        return "; ".join(each for each in (self._reboot.told(), done) if each)[:500]
