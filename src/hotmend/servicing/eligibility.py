"""May this machine be hot-patched? Yes only where the product has it and every prerequisite is known to hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from hotmend.servicing.facts import MachineFacts
from hotmend.servicing.message import Cause, Message, cause
from hotmend.servicing.prerequisites import Check, Setting, checks
from hotmend.servicing.products import Catalogue, Product, identify
from hotmend.servicing.releases import Calendar


@dataclass(frozen=True, slots=True)
class Eligibility:
    """The answer.

    Attributes:
        eligible: None: something that decides it is not known.
        product: what the machine is; None: not in the catalogue, or not known.
        checks: all prerequisites of the product.
        causes: why not, or why it is not known; of a yes, one that says so.
    """

    eligible: bool | None
    product: Product | None
    checks: tuple[Check, ...]
    causes: tuple[Cause, ...]


def eligibility(facts: MachineFacts, catalogue: Catalogue, calendar: Calendar, now: datetime) -> Eligibility:
    """Return whether a machine may be hot-patched, with every reason against it."""
    identified = identify(catalogue, facts)
    product = identified.product
    if identified.unknown:
        why = cause(
            "product-unknown", "Which product this is cannot be told without: {facts}.", facts=identified.unknown
        )
        return Eligibility(None, None, (), (why,))
    if product is None:
        return Eligibility(False, None, (), (cause("product-not-listed", "The catalogue has no such product."),))
    if product.not_supported:
        return Eligibility(False, product, (), (Cause("product-not-supported", Message(product.not_supported)),))
    made = checks(Setting(facts, product, catalogue, calendar, now))
    against = tuple(check.cause for check in made if check.holds is not True)
    if not against:
        yes = cause(
            "all-prerequisites", "{product}: all {count} prerequisites hold.", product=product.name, count=len(made)
        )
        return Eligibility(True, product, made, (yes,))
    return Eligibility(False if any(c.holds is False for c in made) else None, product, made, against)
