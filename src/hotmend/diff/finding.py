"""What a rule of the verdict found: a reason, and the new functions it rests on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hotmend.model.verdict import Reason, Severity


@dataclass(frozen=True, slots=True)
class Finding:
    """A reason and whom it blames.

    Attributes:
        reason: what the operator reads.
        blamed: indexes of codes of the new build that would have to stay old for the reason to vanish; None where the
            image as a whole is meant, so that no part of it can be patched.
        alone: what it found cannot have changed any other function, seen or not.
    """

    reason: Reason
    blamed: frozenset[int] | None = None
    alone: bool = False

    @property
    def refuses(self) -> bool:
        """Whether it stops the hotpatch."""
        return self.reason.severity is Severity.REFUSAL


def blame(reason: Reason, codes: Iterable[int], *, alone: bool = False) -> Finding:
    """Return the finding that rests on some new codes."""
    return Finding(reason, frozenset(codes), alone)


def whole(reasons: Iterable[Reason]) -> list[Finding]:
    """Return findings that concern the image as a whole."""
    return [Finding(reason) for reason in reasons]
