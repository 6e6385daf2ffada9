"""Whether what a machine would install by itself keeps it on the hotpatch line, judged from afar by its facts.

The service takes classifications, and the machine's agent decides what that is. The facts say what it offered when they
were collected; an installation that is begun by them takes nothing that was published later.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from hotmend.model.verdict import Reason, refusal
from hotmend.servicing.evaluate import Program
from hotmend.servicing.facts import MachineFacts, Offer
from hotmend.servicing.maintenance import Policy
from hotmend.servicing.message import Message
from hotmend.servicing.offered import line_reasons, offered_effects
from hotmend.servicing.selection import Deed, choose

FACTS_AGE_MAX: Final = timedelta(hours=24)
"""Older facts say too little: something else may have been installed since."""


def install_reasons(
    facts: MachineFacts | None,
    program: Program,
    policy: Policy,
    now: datetime,
    write: Callable[[Message], str] = str,
) -> tuple[Reason, ...]:
    """Return why an installation is not begun.

    Args:
        facts: of the machine; None: nobody gave any.
        program: calendar, products and rules.
        policy: what is to be installed, with the agent's names of classifications.
        now: an aware moment.
        write: puts what a reason rests on into the words of whoever reads it.
    """
    if facts is None or facts.offered is None or facts.assessed_at is None:
        return (
            refusal(
                "line-not-judged",
                "What would be installed, and what it does to the hotpatch line, can be told from the machine's facts "
                "with what it is offered alone; give them with --facts, or say --leave-line. Nothing was installed.",
            ),
        )
    if abs(now - facts.assessed_at) > FACTS_AGE_MAX:
        return (
            refusal(
                "facts-too-old",
                "The facts are not of the last 24 hours, and the machine may be another by now; collect them again, "
                "or say --leave-line. Nothing was installed.",
                facts.assessed_at.isoformat(),
            ),
        )
    return line_reasons(offered_effects(facts, program, _judged(facts.offered, policy), now), write)


def _judged(offered: tuple[Offer, ...], policy: Policy) -> tuple[Offer, ...]:
    """Return what may be installed: what is chosen, what nobody can say, and what is named without being offered."""
    choices = [choose(offer, policy) for offer in offered]
    may = [c.offer for c in choices if c.deed is Deed.INSTALL or c.cause.code == "classification-unknown"]
    known = {offer.id for offer in offered}
    named = [Offer(kb) for kb in policy.include if kb not in known and kb not in policy.exclude]
    return (*may, *named)
