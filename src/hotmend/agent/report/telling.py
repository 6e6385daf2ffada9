"""Each line of the history as one sentence for people, and what it is about."""

from __future__ import annotations

from datetime import datetime

from hotmend.agent.record.history import (
    Action,
    AgentBegan,
    AnyEvent,
    Assessed,
    Crashed,
    DiskBegan,
    DiskEnded,
    DiskLeft,
    Held,
    Ordered,
    OrderEnded,
    Quarantined,
    Rebooting,
    Restarted,
    Reverted,
    RunBegan,
    RunEnded,
    RunState,
)

_NAMES_MAX = 6


def told(event: AnyEvent) -> str:  # noqa: C901, PLR0912 - one case for each kind of line
    """Return what a line says."""
    match event:
        case AgentBegan():
            text = f"agent {event.version} began in mode {event.mode}"
        case Assessed():
            text = f"assessed: {len(event.waiting)} waiting, {len(event.restarts)} restarts due"
            text += "".join(f"; lost: {one.update} in {_names(one.processes)}" for one in event.lost)
            text += "; ".join(("", *event.reboot)) + ("; alerts: " + ", ".join(event.alerts) if event.alerts else "")
        case RunBegan():
            text = f"run by {event.trigger} from {event.source} began: {_names(event.updates)}"
        case RunState():
            text = f"run: {event.state}{_because(event.detail)}"
        case Action():
            text = f"{event.update}: {event.state}{_because(event.detail)}" + _processes(event)
        case DiskBegan():
            held = f"; not to be restarted: {_names(event.held)}" if event.held else ""
            text = f"the disk: installing {_names(event.updates)}{held}"
        case DiskLeft():
            why = event.why or f"would bring {_names(event.because)}"
            text = f"the disk: without {_names(event.updates)}: {why}"
        case DiskEnded():
            text = f"the disk: failed: {event.error}" if event.error else f"the disk: has {_names(event.updates)}"
        case RunEnded():
            text = f"run ended: {event.outcome}{_because(event.detail)}"
        case Quarantined():
            text = f"{event.update} {'left' if event.lifted else 'came into'} quarantine{_because(event.reason)}"
        case Held():
            text = "hold released" if event.released else f"on hold{_until(event.until)}{_because(event.reason)}"
        case Reverted():
            pids = _names(tuple(f"{process.comm} ({process.pid})" for process in event.processes))
            text = f"taken back by hand: {_names(event.hotpatches)} in {pids}{_because(event.reason)}"
        case Restarted():
            text = f"restart of {event.unit}: {event.outcome or 'begins'}{_because(event.detail)}"
        case Rebooting():
            text = f"rebooting: {'; '.join(event.reasons)}"
        case Ordered():
            text = f"the server asks: {event.kind} {_asked(event)}".rstrip() + _because(event.reason)
        case OrderEnded():
            text = f"what the server asked for: {event.state}{_because(event.detail)}"
        case Crashed():
            whose = f"in new code of {_names(event.hotpatches)}" if event.ours else "outside new code"
            at = f" at {event.address:#x}" if event.address else f" ({event.what})"
            text = f"{event.comm} ({event.pid}) crashed{at}, {whose}"
    return text


def _asked(order: Ordered) -> str:
    """Return what an order is about: without updates it is about all, where it is about updates."""
    if order.undoes:
        return f"what its order {order.undoes} brought"
    if order.updates:
        return _names(order.updates)
    return {"install": "all that waits", "revert": "all that was brought"}.get(order.kind, "")


def _because(text: str) -> str:
    return f": {text}" if text else ""


def _until(moment: datetime | None) -> str:
    return f" until {moment.isoformat(timespec='minutes')}" if moment else ""


def _names(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_NAMES_MAX])
    return shown + (f" and {len(names) - _NAMES_MAX} more" if len(names) > _NAMES_MAX else "") or "nothing"


def _processes(action: Action) -> str:
    if not (action.changed or action.old):
        return ""
    return f"; new code in {len(action.changed)} processes, old code in {len(action.old)}"


def units_of(event: AnyEvent) -> frozenset[str]:
    """Return the units that a line is about."""
    match event:
        case Action(changed=changed, old=old):
            found = {process.unit for process in changed} | {process.unit for process in old}
        case Reverted(processes=processes):
            found = {process.unit for process in processes}
        case Restarted(unit=unit) | Crashed(unit=unit):
            found = {unit}
        case DiskBegan(held=held):
            found = {name if "." in name else f"{name}.service" for name in held}
        case _:
            found = set()
    return frozenset(found - {""})


def pids_of(event: AnyEvent) -> frozenset[int]:
    """Return the processes that a line is about."""
    match event:
        case Action(changed=changed, old=old):
            return frozenset({process.pid for process in changed} | {process.pid for process in old})
        case Reverted(processes=processes):
            return frozenset(process.pid for process in processes)
        case Crashed(pid=pid):
            return frozenset({pid})
        case _:
            return frozenset()
