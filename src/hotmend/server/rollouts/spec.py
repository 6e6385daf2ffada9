"""What a rollout was made from, as it is kept: rings, limits and thresholds are those of the servicing rules."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hotmend.server.problem import Problem
from hotmend.servicing.gates import Thresholds
from hotmend.servicing.lanes import Lane
from hotmend.servicing.message import Cause
from hotmend.servicing.rings import Ring
from hotmend.servicing.starting import Limits
from hotmend.wire.rollouts import RolloutWanted

_Tag = Annotated[str, Meta(max_length=200)]


class Selection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which machines: all that is given must hold; nothing given: all.

    Attributes:
        machines: ids.
        tags: name to value; a value "" stands for any.
        scope: name of a dynamic scope; "": none.
    """

    machines: Annotated[tuple[str, ...], Meta(max_length=100_000)] = ()
    tags: Annotated[dict[str, _Tag], Meta(max_length=20)] = {}
    scope: Annotated[str, Meta(max_length=100)] = ""

    @property
    def dynamic(self) -> bool:
        """Whether machines may come to it later."""
        return not self.machines


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a rollout does.

    Attributes:
        kind: of its actions.
        updates: as PACKAGE=VERSION or a release's id; none: all that a machine is offered.
        disk: packages are installed as well.
        rings: in their order, the canary first.
        selection: which machines.
        budget: machines of a ring that are changed at a time.
        share_percent: of a set that is to stay available, at a time.
        thresholds: of each ring's gate.
        minutes: what an action needs of a window.
        answer_minutes: an action that was begun and says nothing for so long has timed out.
        pre_event_minutes, post_event_minutes: before a ring begins and after it has passed, somebody outside must allow
            it within so many minutes; 0: nobody is asked.
        reason: for people.
    """

    updates: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=500)], ...], Meta(max_length=200)]
    rings: Annotated[tuple[Ring, ...], Meta(max_length=50)]
    selection: Selection = Selection()
    kind: Literal["install", "assess"] = "install"
    disk: bool = True
    budget: Annotated[int, Meta(ge=1, le=100_000)] = 10
    share_percent: Annotated[int, Meta(ge=1, le=100)] = 20
    thresholds: Thresholds = Thresholds()
    minutes: Annotated[int, Meta(ge=1, le=24 * 60)] = 15
    answer_minutes: Annotated[int, Meta(ge=1, le=7 * 24 * 60)] = 120
    pre_event_minutes: Annotated[int, Meta(ge=0, le=7 * 24 * 60)] = 0
    post_event_minutes: Annotated[int, Meta(ge=0, le=7 * 24 * 60)] = 0
    reason: Annotated[str, Meta(max_length=500)] = ""

    @property
    def limits(self) -> Limits:
        """How much is changed at a time."""
        return Limits(self.budget, self.share_percent)


def spec_of(given: object) -> Spec:
    """Return a spec from plain values.

    Raises:
        Problem: they are none.
    """
    try:
        return msgspec.convert(given, Spec, strict=False)
    except msgspec.ValidationError as error:
        raise Problem(422, "not-valid", str(error)) from None


def asked(wanted: RolloutWanted) -> tuple[Lane, Spec]:
    """Return what a request says in the form of the rules.

    Raises:
        Problem: it makes no sense.
    """
    given = asdict(wanted)
    for each in ("name", "seed", "plan"):
        given.pop(each)
    return Lane(given.pop("lane")), spec_of(given)


def plan_digest(spec: Spec, lane: Lane, rings: Iterable[Iterable[str]]) -> str:
    """Return what people approve: the spec, and which machine is where."""
    parts = [msgspec.to_builtins(spec), str(lane), *(",".join(ring) for ring in rings)]
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def cause_json(found: Cause | None) -> dict[str, Any]:
    """Return a cause as it is kept and answered: code, English sentence, and the text and values it is made of."""
    if found is None:
        return {}
    values = msgspec.to_builtins(found.message.values)
    return {"code": found.code, "sentence": str(found.message), "text": found.message.text, "values": values}
