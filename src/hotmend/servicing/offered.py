"""What offered updates would do to the hotpatch line: which of them touch it at all, and what refuses them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import Final

from hotmend.model.verdict import Reason, refusal
from hotmend.servicing.eligibility import eligibility
from hotmend.servicing.evaluate import Program, channel_of, effects
from hotmend.servicing.facts import MachineFacts, Offer
from hotmend.servicing.install import HARMLESS, Effect, Outcome
from hotmend.servicing.message import Message, cause
from hotmend.servicing.products import Channel, identify

ALWAYS_OUTSIDE: Final = frozenset({"KB890830"})
"""The removal tool: its title is in the language of the machine."""
OUTSIDE_CLASSES: Final = frozenset({"Definition Updates", "Drivers"})


def offered_effects(
    facts: MachineFacts, program: Program, offers: Sequence[Offer], now: datetime
) -> tuple[Effect | None, ...]:
    """Return what each of the updates would do, installed one after the other from the oldest.

    None stands for one that does not touch the line: it is none of the operating system's own, or the machine's product
    has no line. Of a machine whose product is not known nobody can say what an update does.
    """
    channel = line_channel(facts, program, now)
    if channel is None:
        if not identify(program.catalogue, facts).unknown:
            return (None,) * len(offers)
        why = cause("product-unknown", "Which product this is cannot be told, nor what an update does to it.")
        return tuple(Effect(each.id, None, Outcome.UNKNOWN, None, (why,)) for each in offers)

    def order(place: int) -> tuple[date, str]:
        release = program.calendar.find(channel.name, offers[place].id)
        return (release.day if release else date.max), offers[place].id

    own = sorted((place for place, each in enumerate(offers) if not is_outside(each, channel)), key=order)
    found, _ = effects(facts, program, [offers[place].id for place in own], now)
    by_place = dict(zip(own, found, strict=True))
    return tuple(by_place.get(place) for place in range(len(offers)))


def line_channel(facts: MachineFacts, program: Program, now: datetime) -> Channel | None:
    """Return the channel whose line the machine's product is on or off; None where it has none, or is not known."""
    return channel_of(facts, program, eligibility(facts, program.catalogue, program.calendar, now))


def is_outside(offer: Offer, channel: Channel) -> bool:
    """Return whether an update is none of the operating system's own: .NET, drivers, definitions, the removal tool."""
    if offer.classification in OUTSIDE_CLASSES or offer.id in ALWAYS_OUTSIDE:
        return True
    text = f"{offer.title or ''} {offer.classification or ''}"
    return any(word in text for word in channel.outside)


def line_reasons(found: Iterable[Effect | None], write: Callable[[Message], str] = str) -> tuple[Reason, ...]:
    """Return why updates with these effects are not installed together; what leads off the line comes first.

    `write` puts what an effect rests on into the words of whoever reads it.
    """
    bad = [effect for effect in found if effect is not None and effect.outcome not in HARMLESS]
    if not bad:
        return ()
    bad.sort(key=lambda effect: effect.outcome is Outcome.STAYS_OFF)
    subjects = (f"{effect.id}: {effect.outcome}: {write(effect.causes[0].message)}" for effect in bad)
    return (
        refusal(
            "leaves-hotpatch-line",
            "An update would not keep the machine on the hotpatch line, or nobody knows whether it would; exclude it, "
            "or say --leave-line. Nothing was installed.",
            *subjects,
        ),
    )
