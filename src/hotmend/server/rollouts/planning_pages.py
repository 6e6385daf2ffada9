"""A new rollout as a page: what it would do is shown first, and that alone can be made."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
import sqlalchemy as sa
from fastapi import APIRouter, Depends, Form, Query
from sqlalchemy.engine import Connection
from starlette.responses import Response

from hotmend.server.database import new_id
from hotmend.server.machines.figures import choices
from hotmend.server.machines.tables import machines, scopes
from hotmend.server.once import once
from hotmend.server.portal.forms import lines_of, tags_of
from hotmend.server.portal.visit import PageRoute, Visit, doing, redirect, seeing
from hotmend.server.problem import Problem, not_found
from hotmend.server.rollouts import service, store
from hotmend.server.rollouts.preview import Preview, planned, preview
from hotmend.server.rollouts.spec import Spec, asked
from hotmend.servicing.lanes import Lane
from hotmend.servicing.message import N_, Message
from hotmend.wire.rollouts import RingWanted, RolloutWanted, SelectionWanted, ThresholdsWanted

router = APIRouter(prefix="/rollouts", route_class=PageRoute, include_in_schema=False)

RINGS_SHOWN: Final = 6
_FIRST_SHOWN: Final = 10
_WANTED_BYTES_MAX: Final = 1 << 20
KINDS: Final = (
    ("tag", N_("machines with the tag")),
    ("domain", N_("machines of the fault domain")),
    ("tier", N_("machines of the tier: canary or stable")),
    ("percent", N_("percent of all")),
    ("rest", N_("the rest")),
)
_USUAL: Final = [RingWanted("canary", percent=5), RingWanted("rest")]
Text = Annotated[str, Query(max_length=20_000)]
Texts = Annotated[list[Annotated[str, Query(max_length=200)]], Query(max_length=50)]
Number = Annotated[int, Query(ge=0)]


def _asked(
    name: Text = "",
    updates: Text = "",
    lane: Literal["normal", "zero-day"] = "normal",
    kind: Literal["install", "assess"] = "install",
    tags: Text = "",
    scope: Text = "",
    ring: Texts = [],  # noqa: B006 - FastAPI copies it
    by: Texts = [],  # noqa: B006
    value: Texts = [],  # noqa: B006
    budget: Number = 10,
    share: Number = 20,
    success: Number = 95,
    errors: Number = 0,
    soak: Number = 30,
    silence: Number = 30,
    minutes: Number = 15,
    before: Number = 0,
    after: Number = 0,
    reason: Text = "",
    seed: Text = "",
) -> RolloutWanted:
    """Return the rollout that the form asks for."""
    return RolloutWanted(
        name.strip(),
        lines_of(updates),
        list(_rings(ring, by, value)) or _USUAL,
        lane,
        SelectionWanted([], tags_of(tags), scope),
        kind,
        budget=budget,
        share_percent=share,
        thresholds=ThresholdsWanted(success, errors, soak, silence),
        minutes=minutes,
        pre_event_minutes=before,
        post_event_minutes=after,
        reason=reason.strip(),
        seed=seed.strip(),
    )


def _rings(names: list[str], kinds: list[str], values: list[str]) -> Iterator[RingWanted]:
    if not len(names) == len(kinds) == len(values):
        raise Problem(422, "not-valid", "each ring has a name, a kind and a value")
    for name, kind, given in zip(names, kinds, values, strict=True):
        value = given.strip()
        if not name.strip():
            continue
        if kind == "percent" and not (value.isascii() and value.isdigit() and len(value) < 4):
            raise Problem(422, "not-valid", f"ring {name}: not a percentage: {value}")
        match kind:
            case "tag":
                yield RingWanted(name.strip(), tag=value)
            case "domain":
                yield RingWanted(name.strip(), domain=value)
            case "tier" if value == "canary":
                yield RingWanted(name.strip(), tier="canary")
            case "tier" if value == "stable":
                yield RingWanted(name.strip(), tier="stable")
            case "tier":
                raise Problem(422, "not-valid", f"ring {name}: a tier is canary or stable, not: {value}")
            case "percent":
                yield RingWanted(name.strip(), percent=int(value))
            case _:
                yield RingWanted(name.strip())


def _spec(wanted: RolloutWanted) -> tuple[Lane, Spec]:
    """Return a rollout in the form of the rules.

    Raises:
        Problem: it makes no sense.
    """
    if not 1 <= len(wanted.name) <= 200:
        raise Problem(422, "name", "a name has 1 to 200 characters")
    return asked(wanted)


@router.get("/new")
def new_page(
    visit: Annotated[Visit, Depends(seeing("operator"))],
    wanted: Annotated[RolloutWanted, Depends(_asked)],
    previewed: Annotated[str, Query(max_length=10)] = "",
) -> Response:
    """Show the form, and what the rollout would do where it was asked for."""
    wrong, shown, first = "", None, dict[str, str]()
    if previewed:
        try:
            lane, spec = _spec(wanted)
            shown = preview(visit.context, lane, spec, wanted.seed)
            wanted = dataclasses.replace(wanted, seed=shown.seed, plan=shown.plan)
        except Problem as problem:
            wrong = str(problem)
    tags, _ = choices(visit.context)
    with visit.context.database.read() as connection:
        names = list(connection.scalars(sa.select(scopes.c.name).order_by(scopes.c.name)))
        if shown is not None:
            first = _names_of_first(connection, shown)
    rows = [*map(_row, wanted.rings), *[("", "percent", "")] * RINGS_SHOWN][: max(RINGS_SHOWN, len(wanted.rings))]
    return visit.page(
        "rollout_new.html.j2",
        wanted=wanted,
        updates=wanted.updates,
        rows=rows,
        kinds=KINDS,
        tags=tags,
        scopes=[(each, each) for each in names],
        wrong=wrong,
        preview=shown,
        first=first,
        shown=_FIRST_SHOWN,
        packed=msgspec.json.encode(wanted).decode(),
        key=new_id(),
        cause=lambda given: _cause(given, visit),
    )


@router.get("/{identity}/preview")
def planned_page(visit: Annotated[Visit, Depends(seeing("viewer"))], identity: str) -> Response:
    """Show what a rollout that has not begun would do: to whoever approves it, with the machines of its plan."""
    found = planned(visit.context, identity)
    with visit.context.database.read() as connection:
        row, first = store.rollout(connection, identity), _names_of_first(connection, found)
    if row is None:
        raise not_found("rollout")
    return visit.page(
        "rollout_preview.html.j2",
        rollout=row,
        updates=row["spec"].get("updates", []),
        preview=found,
        first=first,
        shown=_FIRST_SHOWN,
        cause=lambda given: _cause(given, visit),
    )


def _row(ring: RingWanted) -> tuple[str, str, str]:
    if ring.tag:
        return ring.name, "tag", ring.tag
    if ring.domain:
        return ring.name, "domain", ring.domain
    if ring.tier:
        return ring.name, "tier", ring.tier
    return (ring.name, "percent", str(ring.percent)) if ring.percent else (ring.name, "rest", "")


def _names_of_first(connection: Connection, shown: Preview) -> dict[str, str]:
    """Return the names of the machines that a page has of a preview, by their ids."""
    ids = [each for ring in shown.rings for each in ring.first[:_FIRST_SHOWN]]
    found = sa.select(machines.c.id, machines.c.name).where(machines.c.id.in_(ids))
    return {row.id: row.name for row in connection.execute(found)}


def _cause(given: Mapping[str, Any], visit: Visit) -> str:
    return visit.words.write(Message(given["text"], given["values"]))


@router.post("")
def create(
    visit: Annotated[Visit, Depends(doing("operator"))],
    wanted: Annotated[str, Form(max_length=_WANTED_BYTES_MAX)] = "",
    key: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    """Plan the rollout that was shown; another one by now is shown again first."""
    try:
        made = msgspec.json.decode(wanted, type=RolloutWanted)
    except (msgspec.MsgspecError, UnicodeEncodeError) as error:
        raise Problem(422, "not-valid", str(error)) from None
    if not made.seed or not made.plan:
        raise Problem(428, "forecast-first", "nothing was shown", "look at what it would do")
    lane, spec = _spec(made)
    shown = service.Shown(made.seed, made.plan)
    context, caller = visit.context, visit.who
    answer = once(
        context,
        caller,
        f"page {key}" if key else "",
        {"path": "rollouts", "wanted": dataclasses.asdict(made)},
        lambda connection, now: service.create(connection, now, caller, made.name, lane, spec, shown),
    )
    return redirect(f"/rollouts/{msgspec.json.decode(answer, type=str)}", done="rollout-made")
