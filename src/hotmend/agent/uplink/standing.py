"""How a machine stands with its server: by what it has heard of it, whoever that is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from hotmend.agent.paths import Places
from hotmend.agent.uplink.files import Directed, read, registration
from hotmend.agent.uplink.letters import held_policy


@dataclass(frozen=True, slots=True)
class Standing:
    """How a machine stands with its server.

    Attributes:
        heard_at: when its last letter was signed; of a machine that has none yet, when it was enrolled.
        policy: when the last policy was signed and when it ends; None: there is none.
    """

    heard_at: datetime
    policy: tuple[datetime, datetime] | None


def standing(places: Places) -> Standing | None:
    """Return how this machine stands with its server; None: it is nobody's.

    Raises:
        InputError: registration or what was taken from letters cannot be read.
        OSError: the same.
    """
    own = registration(places)
    if own is None:
        return None
    taken = read(places.directed, Directed) or Directed()
    enrolled = datetime.fromtimestamp(places.server.stat().st_mtime, UTC)
    policy = held_policy(taken, own)
    heard = enrolled if taken.heard_at is None else taken.heard_at
    return Standing(heard, (policy.issued_at, policy.expires_at) if policy is not None else None)
