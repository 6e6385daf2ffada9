"""A check: one request, and what the old and the new build answer to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from .process import Server


class State(StrEnum):
    """Which build's code answered."""

    VULNERABLE = "vulnerable"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class Check:
    """A difference in behaviour between the two builds that a client can see.

    Attributes:
        name: kebab-case.
        cve: the CVE id it shows, or "" for a difference that is no CVE (then `what` says so).
        what: one sentence: what the old code does wrong.
        probe: sends the request and returns the answer in a short readable form.
        old, new: what `probe` must return from either build; anything else is neither and fails.
    """

    name: str
    cve: str
    what: str
    probe: Callable[[Server], str]
    old: str
    new: str

    def state(self, server: Server) -> State:
        """Ask the server and say which code answered.

        Raises:
            AssertionError: the answer is neither the old nor the new one.
        """
        answer = self.probe(server)
        if answer == self.old:
            return State.VULNERABLE
        if answer == self.new:
            return State.FIXED
        raise AssertionError(f"{self.name}: {answer!r} is neither {self.old!r} (old) nor {self.new!r} (new)")


def state_assert(checks: tuple[Check, ...], server: Server, expected: State) -> None:
    """Assert that every check sees `expected`; all answers are collected first."""
    wrong = []
    for check in checks:
        answer = check.probe(server)
        wanted = check.old if expected is State.VULNERABLE else check.new
        if answer != wanted:
            wrong.append(f"{check.name} ({check.cve or 'no CVE'}): {answer!r}, wanted {wanted!r}")
    assert not wrong, f"{server.name} should be {expected}: " + "; ".join(wrong)
