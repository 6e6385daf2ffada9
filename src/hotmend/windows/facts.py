"""Everything that can be found out about this machine, as one value; nothing is changed. What is not read says why."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

from hotmend.model.errors import HotmendError
from hotmend.servicing.facts import FACTS_VERSION, MachineFacts, Windows
from hotmend.windows import facts_policy, facts_system, facts_updates
from hotmend.windows.agent import UpdateAgent
from hotmend.windows.cim import Cim
from hotmend.windows.network import METADATA, instance, reached
from hotmend.windows.notes import Notes
from hotmend.windows.registry import Machine
from hotmend.windows.updates import Search

_SECONDS_MAX: Final = 3.0
_NAME_KEY: Final = rf"{facts_system.CONTROL_KEY}\ComputerName\ComputerName"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where facts come from.

    Attributes:
        machine, cim: of this machine.
        agent: makes the update agent; it fails where the agent does.
        ask_agent: also ask what is offered, which takes minutes and goes to the network.
        try_network: also try the Arc agent's endpoints and Azure's metadata service.
        metadata: where that service is.
    """

    machine: Machine
    cim: Cim
    agent: Callable[[], UpdateAgent]
    ask_agent: bool = True
    try_network: bool = True
    metadata: str = METADATA
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))


@dataclass(frozen=True, slots=True)
class Collected:
    """Facts, and what came with them: the agent, and what its search found, to go on with."""

    facts: MachineFacts
    agent: UpdateAgent | None
    search: Search | None


def collect(sources: Sources) -> Collected:
    """Return the facts of a machine."""
    machine, cim, notes = sources.machine, sources.cim, Notes()
    now = machine.now()
    agent = notes.ask("windows.updates", sources.agent)
    updates, since = facts_updates.history(agent, cim, machine, notes) if agent else (None, None)
    offered, search = facts_updates.offered(agent, notes) if agent and sources.ask_agent else (None, None)
    where = facts_system.environment(machine, cim, notes)
    compute = _compute(sources, notes) if where == "azure" else None
    image, region = facts_system.image(where, compute, notes)
    arc = facts_policy.arc(machine, lambda host: _reach(sources, host), notes)
    policy = facts_policy.policy(machine)
    notes.unknown("windows.hotpatch", "Azure tells it, not the machine: hotmend arc status --facts")
    windows = Windows(
        **facts_system.version(machine, notes),
        image=image,
        region=region,
        scale_set=facts_system.scale_set(where, compute, notes),
        updates=updates,
        updates_since=since,
        vsm=facts_system.vsm(machine, cim, where, notes),
        arc=arc,
        workaround=facts_policy.workaround(machine),
        client=facts_policy.client(machine, notes),
        policy=policy,
    )
    facts = MachineFacts(
        facts=FACTS_VERSION,
        collected_at=now,
        machine=facts_system.text_of(machine, _NAME_KEY, "ComputerName"),
        origin="read",
        environment=where,
        architecture=cast("Any", facts_system.architecture(machine, notes)),
        time_zone=facts_system.time_zone(machine, notes),
        booted_at=notes.ask("booted_at", machine.booted_at),
        reboot_pending=facts_updates.reboot_pending(machine, agent, notes),
        windows=windows,
        managers=facts_policy.managers(machine, policy, arc),
        offered=offered,
        assessed_at=now if offered is not None else None,
        unread=notes.unread,
    )
    return Collected(facts, agent, search)


def _compute(sources: Sources, notes: Notes) -> dict[str, Any] | None:
    if not sources.try_network:
        return None
    return notes.ask("windows.image", lambda: instance(sources.metadata, _SECONDS_MAX))


def _reach(sources: Sources, host: str) -> bool | None:
    """Try an endpoint; through a proxy it is the agent that would have to be asked."""
    proxied = any(name.upper() == "HTTPS_PROXY" and value for name, value in sources.environment.items())
    if not sources.try_network or proxied:
        return None
    try:
        return reached(host, _SECONDS_MAX)
    except (HotmendError, UnicodeError):
        return None
