"""Verdicts and reasons: why something is, or is not, hot-patched.

A refusal is a value with reasons, never an exception, so that every reason can be listed, tested and
explained in `docs/reasons.md` under its code.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What the difference of two builds amounts to."""

    HOTPATCH = "hotpatch"
    HOTPATCH_WITH_NOTES = "hotpatch with notes"
    BASELINE_REQUIRED = "baseline required"
    NO_CHANGE = "no change"


class Severity(StrEnum):
    """Whether a reason stops the work or only has to be read."""

    NOTE = "note"
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason: a stable code, a sentence for the operator, and what it rests on.

    Attributes:
        code: kebab-case, stable, the heading in `docs/reasons.md`.
        severity: refusal or note.
        sentence: one sentence a person can act on.
        subjects: functions, addresses, threads or files the reason rests on, as readable text.
    """

    code: str
    severity: Severity
    sentence: str
    subjects: tuple[str, ...] = ()


def refusal(code: str, sentence: str, *subjects: str) -> Reason:
    """Return a reason that stops the work."""
    return Reason(code, Severity.REFUSAL, sentence, subjects)


def note(code: str, sentence: str, *subjects: str) -> Reason:
    """Return a reason that does not stop the work but has to be read."""
    return Reason(code, Severity.NOTE, sentence, subjects)


def judge(reasons: tuple[Reason, ...], *, changed: bool) -> Verdict:
    """Return the verdict that `reasons` add up to for a build in which code `changed` or not."""
    if any(r.severity is Severity.REFUSAL for r in reasons):
        return Verdict.BASELINE_REQUIRED
    if not changed:
        return Verdict.NO_CHANGE
    return Verdict.HOTPATCH_WITH_NOTES if reasons else Verdict.HOTPATCH
