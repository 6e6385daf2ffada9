"""What the update agent offers, what a policy does with each, and what each would do to the hotpatch line.

The rules are those of `servicing`; here they meet what the agent found.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from hotmend.servicing.evaluate import Program
from hotmend.servicing.facts import MachineFacts
from hotmend.servicing.install import Effect
from hotmend.servicing.level import Level, windows_level
from hotmend.servicing.maintenance import Policy
from hotmend.servicing.message import cause
from hotmend.servicing.offered import line_channel, offered_effects
from hotmend.servicing.selection import Choice, Deed, choose
from hotmend.windows.facts import Collected
from hotmend.windows.updates import CLASS_NAMES, Found


@dataclass(frozen=True, slots=True)
class Item:
    """One offered update.

    Attributes:
        update: as the agent has it.
        choice: what the policy does with it.
        effect: what it alone would do to the line; None: it does not touch it.
    """

    update: Found
    choice: Choice
    effect: Effect | None


@dataclass(frozen=True, slots=True)
class Assessment:
    """What is offered at one moment.

    Attributes:
        at: when.
        facts: the machine.
        level: None: its product has no hotpatch line, or is not known.
        items: in the agent's order.
        warnings: of the search; with any, something may be missing.
    """

    at: datetime
    facts: MachineFacts
    level: Level | None
    items: tuple[Item, ...]
    warnings: tuple[str, ...]

    @property
    def chosen(self) -> tuple[Found, ...]:
        """The updates that the policy installs."""
        return tuple(item.update for item in self.items if item.choice.deed is Deed.INSTALL)

    @property
    def counts(self) -> dict[str, int]:
        """How many updates there are of each classification; `other` are of none that is known."""
        names = {english: name for name, english in CLASS_NAMES.items()}
        found = dict.fromkeys(CLASS_NAMES, 0) | {"other": 0}
        for item in self.items:
            found[names.get(item.update.classification or "", "other")] += 1
        return found


def assess(
    collected: Collected, program: Program, policy: Policy, rolled_back: Collection[str], now: datetime
) -> Assessment:
    """Return what is offered.

    Args:
        collected: facts, and the search they came with.
        program: calendar, products and rules.
        policy: what the operator wants.
        rolled_back: KBs that were rolled back here; they are not installed again.
        now: an aware moment.
    """
    facts, search = collected.facts, collected.search
    items = []
    for update in search.updates if search else ():
        choice = _choice(update, policy, rolled_back)
        effect = line_effects(facts, program, [update], now).get(update.identity)
        items.append(Item(update, choice, effect))
    return Assessment(now, facts, level_of(facts, program, now), tuple(items), search.warnings if search else ())


def _choice(update: Found, policy: Policy, rolled_back: Collection[str]) -> Choice:
    if any(kb in rolled_back for kb in update.kbs):
        why = cause("rolled-back", "It was rolled back on this machine, and stays away until that is lifted.")
        return Choice(update.offer, Deed.EXCLUDE, why)
    return choose(update.offer, policy)


def line_effects(facts: MachineFacts, program: Program, updates: Sequence[Found], now: datetime) -> dict[str, Effect]:
    """Return, by identity, what updates would do to the line, installed one after the other from the oldest.

    Updates that do not touch the line are left out.
    """
    found = offered_effects(facts, program, [update.offer for update in updates], now)
    return {update.identity: effect for update, effect in zip(updates, found, strict=True) if effect is not None}


def level_of(facts: MachineFacts, program: Program, now: datetime) -> Level | None:
    """Return the machine's level."""
    channel = line_channel(facts, program, now)
    if channel is None or facts.windows is None:
        return None
    return windows_level(facts.windows, channel, program.calendar)
