"""Which of the offered updates a policy installs, and which are only listed. Excludes win over everything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from hotmend.servicing.facts import Offer
from hotmend.servicing.maintenance import Policy
from hotmend.servicing.message import Cause, cause


class Deed(StrEnum):
    """What happens with an offered update."""

    INSTALL = "install"
    ASK = "ask"
    LIST = "list"
    EXCLUDE = "exclude"


@dataclass(frozen=True, slots=True)
class Choice:
    """What happens with one update, and why."""

    offer: Offer
    deed: Deed
    cause: Cause


def choose(offer: Offer, policy: Policy) -> Choice:
    """Return what a policy does with an update."""
    excluded = _match(offer, policy.exclude)
    if excluded:
        return Choice(offer, Deed.EXCLUDE, cause("excluded", "Excluded by {mask}; excludes win.", mask=excluded))
    if policy.reboot == "never" and offer.needs_reboot is not False:
        return Choice(
            offer,
            Deed.LIST,
            cause("needs-reboot", "It needs a reboot, or it is not known that it needs none; the policy allows none."),
        )
    included = _match(offer, policy.include)
    if included:
        return _wanted(offer, policy, cause("included", "Included by {mask}.", mask=included))
    if offer.classification is None:
        return Choice(offer, Deed.LIST, cause("classification-unknown", "Its classification is not known."))
    if offer.classification not in policy.classifications:
        return Choice(
            offer,
            Deed.LIST,
            cause(
                "classification-listed", "Updates of class {name} are listed, not installed.", name=offer.classification
            ),
        )
    return _wanted(
        offer,
        policy,
        cause("classification-wanted", "Updates of class {name} are installed.", name=offer.classification),
    )


def _wanted(offer: Offer, policy: Policy, why: Cause) -> Choice:
    match policy.mode:
        case "automatic":
            return Choice(offer, Deed.INSTALL, why)
        case "notify":
            return Choice(offer, Deed.ASK, cause("notify", "Offered; the policy asks before it installs."))
    return Choice(
        offer,
        Deed.LIST,
        cause(
            "manual",
            "Installed on command alone, which is not availability-first: all machines chosen are patched at once.",
        ),
    )


def _match(offer: Offer, masks: Iterable[str]) -> str:
    """Return the first mask that names the update, "" for none."""
    names = [name for name in (offer.id, offer.title) if name]
    return next((mask for mask in masks if any(fnmatchcase(name, mask) for name in names)), "")
