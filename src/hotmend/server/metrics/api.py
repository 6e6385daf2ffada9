"""Metrics of the fleet for Prometheus, in its text format; docs/monitoring.md has the meaning of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from math import inf
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from hotmend import __version__
from hotmend.server.audit import store as audit
from hotmend.server.context import Context, context_of
from hotmend.server.identity.access import VIEWER, Principal
from hotmend.server.machines.tables import STATES
from hotmend.server.metrics import store
from hotmend.server.rollouts.waiting import held_long
from hotmend.servicing.rollouts import State

router = APIRouter(tags=["metrics"])
_MISSED: Final = 3
"""A machine that has missed so many check-ins is silent."""


@router.get("/metrics", response_class=PlainTextResponse)
def get_metrics(request: Request, caller: Annotated[Principal, Depends(VIEWER)]) -> Response:  # noqa: ARG001
    """Return the metrics of the fleet. They are of the database: any server of it gives the same."""
    return Response(_metrics(context_of(request)), media_type=CONTENT_TYPE_LATEST)


def _metrics(context: Context) -> bytes:
    now = context.clock()
    seen_after = now - _MISSED * timedelta(seconds=context.settings.check_in_seconds)
    registry = CollectorRegistry()
    with context.database.survey() as connection:
        silent = store.machines_silent(connection, seen_after)
        blind = store.machines_blind(connection, seen_after, now)
        steered = store.steered_at(connection)
        age = 0.0 if steered is None else max(0.0, (now - steered).total_seconds())
        machines, rollouts = store.machines_by_state(connection), store.rollouts_by_state(connection)
        open_actions = store.open_actions(connection)
        held = sum(each.machines for each in held_long(connection, now, seen_after))
        record, read_at = audit.kept(connection), audit.checked_at(connection)
        unread = inf if read_at is None else max(0.0, (now - read_at).total_seconds())
        single = {
            "fleet_audit_wrong": ("1 where the audit record is not as it was written.", float(_is_wrong(record))),
            "fleet_audit_read_age_seconds": ("Since the audit record was read back.", unread),
            "fleet_machines_silent": ("Active machines that have missed three check-ins.", silent),
            "fleet_machines_blind": ("Active machines that check in and whose agent does not look.", blind),
            "fleet_halted": ("1 where everything is halted.", float(store.halted(connection))),
            "fleet_rollouts_braked": ("Rollouts with the brake on.", store.brakes(connection)),
            "fleet_steering_age_seconds": ("Since the rollout that waits longest was steered.", age),
            "fleet_machines_held_long": ("Machines of running rollouts that have not begun for long.", held),
            "fleet_events_waiting": ("Events around a ring that wait for an answer.", store.events_waiting(connection)),
        }
    _many(registry, "fleet_build_info", "Version of hotmend.", ("version",), [((__version__,), 1)])
    _many(registry, "fleet_machines", "Machines by state.", ("state",), _all(STATES, machines))
    _many(registry, "fleet_rollouts", "Rollouts by state.", ("state",), _all((each.value for each in State), rollouts))
    _many(registry, "fleet_actions_open", "Actions that have not ended.", ("kind", "state"), open_actions.items())
    for name, (text, value) in single.items():
        Gauge(f"hotmend_{name}", text, registry=registry).set(value)
    return generate_latest(registry)


def _is_wrong(record: audit.Verdict | None) -> bool:
    return record is not None and bool(record.wrong)


def _all(names: Iterable[str], counts: Mapping[str, int]) -> list[tuple[tuple[str, ...], int]]:
    return [((name,), counts.get(name, 0)) for name in names]


def _many(
    registry: CollectorRegistry,
    name: str,
    text: str,
    labels: tuple[str, ...],
    values: Iterable[tuple[tuple[str, ...], int]],
) -> None:
    gauge = Gauge(f"hotmend_{name}", text, labelnames=labels, registry=registry)
    for given, value in values:
        gauge.labels(*given).set(value)
