"""Known issues of releases, as they concern a machine, in lines of text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from hotmend.wire.report import Issue

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def issue_rows(issue: Issue) -> Iterator[str]:
    """Return lines of text about a known issue: whom and what, and each step of its workarounds.

    A machine may have reported whatever it likes: nothing of it is to move the cursor of who reads it.
    """
    return (_CONTROL.sub("?", row) for row in _rows(issue))


def _rows(issue: Issue) -> Iterator[str]:
    state = "workaround complete" if issue.done else "affected" if issue.affected else "may be affected"
    until = f", before {issue.deadline}{' (late)' if issue.overdue else ''}" if issue.deadline else ""
    yield f"{issue.title} [{issue.id}]: {state}{until}"
    if issue.cost and not issue.done:
        yield f"  if nothing is done: {issue.cost}"
    for option in issue.options:
        yield f"  {option.title}:"
        for number, step in enumerate(option.steps, 1):
            proven = {True: "done", False: "to do", None: "not known"}[step.proven]
            yield f"    {number}. {step.title}{' (a reboot)' if step.reboot else ''}: {proven}"
            yield from (f"       {command}" for command in step.commands)
