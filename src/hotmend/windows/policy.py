"""A maintenance policy as values of the update client's policy. Pure; `regfile` writes them.

The client knows less than a policy can say: one hour, every day or one day of the week. What it cannot say is refused,
not rounded. Excludes, includes and freezes stay with hotmend; a note says so. Source: Microsoft's 'Manage additional
Windows Update settings'.
"""

from __future__ import annotations

import re
from typing import Final

from hotmend.model.verdict import Reason, note, refusal
from hotmend.servicing.facts import UpdatePolicy
from hotmend.servicing.maintenance import Policy, Window
from hotmend.windows.regfile import Keys
from hotmend.windows.registry import Registry, Value
from hotmend.windows.remedies import POLICY_AU_KEY, POLICY_KEY

_DAYS: Final = {"SU": 1, "MO": 2, "TU": 3, "WE": 4, "TH": 5, "FR": 6, "SA": 7}
_RULE: Final = re.compile(r"FREQ=(?:DAILY|WEEKLY;BYDAY=(SU|MO|TU|WE|TH|FR|SA))(?:;INTERVAL=1)?")
_NOTIFY, _SCHEDULED = 3, 4
_TEXTS: Final = frozenset(
    {
        "WUServer",
        "WUStatusServer",
        "UpdateServiceUrlAlternate",
        "TargetGroup",
        "TargetReleaseVersionInfo",
        "ProductVersion",
    }
)
"""Values that are texts; all others of the client's policy are numbers."""


def client_values(policy: Policy) -> tuple[Keys | None, tuple[Reason, ...]]:
    """Return the values for a policy, and notes; or None and why the client cannot be told it.

    Values that would contradict an earlier policy are removed.
    """
    if policy.mode == "manual":
        return {POLICY_AU_KEY: {"NoAutoUpdate": Value.dword(1), "AUOptions": None}}, _notes(policy)
    values: dict[str, Value | None] = {"NoAutoUpdate": Value.dword(0)}
    if policy.mode == "notify":
        values["AUOptions"] = Value.dword(_NOTIFY)
        return {POLICY_AU_KEY: {**values, "ScheduledInstallDay": None, "ScheduledInstallTime": None}}, _notes(policy)
    if len(policy.window) != 1:
        return None, (_cannot("more than one window"),)
    window = policy.window[0]
    day = _day(window)
    if day is None:
        return None, (_cannot(f"{window.rule}, {window.days_after} days after, from {window.start:%H:%M}"),)
    values |= {
        "AUOptions": Value.dword(_SCHEDULED),
        "ScheduledInstallDay": Value.dword(day),
        "ScheduledInstallTime": Value.dword(window.start.hour),
        "NoAutoRebootWithLoggedOnUsers": Value.dword(1) if policy.reboot == "never" else None,
    }
    return {POLICY_AU_KEY: values}, _notes(policy)


def _day(window: Window) -> int | None:
    """Return the day as the client counts: 0 every day, 1 Sunday; None for what it cannot say."""
    match = _RULE.fullmatch(window.rule)
    if match is None or window.days_after or window.start.minute or window.start.second:
        return None
    return _DAYS.get(match[1], 0)


def _cannot(what: str) -> Reason:
    return refusal(
        "client-policy-cannot-say-window",
        "The update client knows one hour, every day or on one day of the week; let hotmend keep this window instead.",
        what,
    )


def _notes(policy: Policy) -> tuple[Reason, ...]:
    kept = [name for name in ("freeze", "include", "exclude") if getattr(policy, name)]
    if not kept:
        return ()
    return (
        note(
            "client-policy-leaves-out",
            "The update client's policy has no place for these; hotmend keeps them, the client by itself does not.",
            *kept,
        ),
    )


def current_values(registry: Registry) -> Keys:
    """Return the policy of a machine as it is."""
    found = {key: registry.values(key) for key in (POLICY_KEY, POLICY_AU_KEY)}
    return {key: values for key, values in found.items() if values}


def values_of_facts(policy: UpdatePolicy) -> tuple[Keys, tuple[str, ...]]:
    """Return the policy that facts carry, and the names of values whose type cannot be told from their text."""
    keys: dict[str, dict[str, Value | None]] = {}
    unclear = []
    for name, text in (policy.values or {}).items():
        key, own = (POLICY_AU_KEY, name[3:]) if name.startswith("AU\\") else (POLICY_KEY, name)
        if own in _TEXTS:
            keys.setdefault(key, {})[own] = Value.text(text)
        elif re.fullmatch(r"[0-9]{1,10}", text) and int(text) < 1 << 32:
            keys.setdefault(key, {})[own] = Value.dword(int(text))
        else:
            unclear.append(name)
    return keys, tuple(unclear)
