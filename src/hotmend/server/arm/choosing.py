"""Which of the updates that wait on a machine an installation means, in the words of Azure's requests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec
from sqlalchemy.engine import Connection, RowMapping

from hotmend.arc.line import install_reasons
from hotmend.arc.machine import Wanted
from hotmend.model.errors import InputError
from hotmend.server.machines import fleet
from hotmend.server.machines import store as machine_store
from hotmend.server.machines.judging import program
from hotmend.server.rollouts.candidates import policy_contents
from hotmend.servicing.facts import MachineFacts
from hotmend.servicing.facts_json import facts_decode
from hotmend.servicing.maintenance import Policy
from hotmend.servicing.selection import Deed, choose
from hotmend.wire.report import Report

SECURITY: Final = frozenset({"Critical", "Critical Updates", "Security", "Security Updates"})
_SERVICE: Final = {
    "Critical": "Critical Updates",
    "Security": "Security Updates",
    "UpdateRollUp": "Update Rollups",
    "FeaturePack": "Feature Packs",
    "ServicePack": "Service Packs",
    "Definition": "Definition Updates",
    "Tools": "Tools",
    "Updates": "Updates",
}
"""How the update client of Windows calls a classification of the API."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is to be installed, and how many of those that wait were excluded, or not selected."""

    updates: tuple[str, ...]
    excluded: int
    not_selected: int


def choose_updates(connection: Connection, row: RowMapping, wanted: Wanted, now: datetime) -> Chosen:
    """Choose among what a machine says that waits.

    Raises:
        InputError: what is asked cannot be told from what the machine says, or an update would leave the line.
    """
    body = machine_store.report_body(connection, row["id"])
    if body is None:
        raise InputError("the machine has not reported yet: have it assess first")
    waiting = msgspec.json.decode(body, type=Report).waiting
    if row["platform"] == "windows":
        kept = fleet.facts_of(connection, row["id"])
        return _of_windows(None if kept is None else facts_decode(kept["body"]), waiting, wanted, now)
    _check_classes(policy_contents(connection).get(row["policy"], {}), wanted)
    names = {update: update.partition("=")[0] for update in waiting}
    excluded = {update for update, name in names.items() if _matches(name, wanted.exclude)}
    taken = [update for update in waiting if update not in excluded]
    if not wanted.classifications:
        taken = [update for update in taken if _matches(names[update], wanted.include)]
    return Chosen(tuple(taken), len(excluded), len(waiting) - len(excluded) - len(taken))


def _check_classes(content: dict[str, Any], wanted: Wanted) -> None:
    """Refuse what a machine's report does not tell apart: it says what waits, its policy which classes that may be."""
    if not wanted.classifications or {"Security", "Other"} <= set(wanted.classifications):
        return
    policy = msgspec.convert(content.get("maintenance", {}), Policy, strict=False)
    if not set(policy.classifications) <= SECURITY:
        raise InputError("the machine's policy takes other classes too: ask for Other as well, or name packages")
    if "Security" not in wanted.classifications:
        raise InputError("what waits on the machine are security updates: ask for Security")


def _of_windows(facts: MachineFacts | None, waiting: tuple[str, ...], wanted: Wanted, now: datetime) -> Chosen:
    policy = Policy(
        mode="automatic",
        classifications=tuple({*wanted.classifications, *(_SERVICE.get(c, c) for c in wanted.classifications)}),
        include=tuple(_kb(each) for each in wanted.include),
        exclude=tuple(_kb(each) for each in wanted.exclude),
        reboot="never" if wanted.without_reboot else "if-required",
    )
    reasons = install_reasons(facts, program(), policy, now)
    if reasons or facts is None:
        raise InputError("; ".join(str(each) for each in reasons[:3]))
    deeds = Counter[Deed]()
    taken = []
    for offer in facts.offered or ():
        deed = choose(offer, policy).deed if offer.id in waiting else Deed.LIST
        deeds[deed] += 1
        if deed is Deed.INSTALL:
            taken.append(offer.id)
    return Chosen(tuple(taken), deeds[Deed.EXCLUDE], deeds[Deed.LIST])


def _kb(text: str) -> str:
    return text if text.upper().startswith("KB") else f"KB{text}"


def _matches(name: str, masks: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, mask) for mask in masks)


def counted(report: Report) -> dict[str, int]:
    """Return how many of what waits fix a vulnerability that the machine names (`security`), and of the rest."""
    named = {each.brings for each in report.findings if each.cve}
    security = sum(update in named for update in report.waiting)
    return {"security": security, "updates": len(report.waiting) - security}
