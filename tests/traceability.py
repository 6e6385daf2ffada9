"""Pages that a test run writes: what a command answered, put where the page has a place for it.

A place is between `<!-- NAME -->` and `<!-- end of NAME -->`. Whoever calls `stands` has run the commands; where
the page says something else it is written anew, and the test fails once, so that somebody looks at what changed.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hotmend.cli.main import run

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Output:
    """What a command did.

    Attributes:
        code: its exit code.
        text: its stdout.
    """

    code: int
    text: str

    @property
    def json(self) -> Any:
        """The one object that it printed."""
        return json.loads(self.text)

    @property
    def rows(self) -> list[Any]:
        """The objects that it printed, one a line."""
        return [json.loads(line) for line in self.text.splitlines()]


@cache
def ran(*given: str) -> Output:
    """Run `hotmend` in this process, from the project's folder, and return what it did."""
    caught = io.TextIOWrapper(io.BytesIO(), "utf-8", newline="\n")
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(caught):
        code = run(list(given))
    caught.flush()
    caught.seek(0)
    return Output(code, caught.read())


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the page: line of the requirements, what it asks for, the command, and what came of it."""

    line: str
    asked: str
    command: str
    observed: str


def table(rows: Iterable[Row], first: str = "line", second: str = "asks for") -> str:
    """Return rows as a Markdown table; `first` and `second` are the headings of its first columns."""
    head = [f"| {first} | {second} | command | observed |", "|---|---|---|---|"]
    return "\n".join([*head, *(_row(each) for each in rows)])


def _row(row: Row) -> str:
    cells = (row.line, row.asked, f"`{row.command}`" if row.command else "", row.observed)
    return f"| {' | '.join(cell.replace('|', '&#124;').replace(chr(10), '<br>') for cell in cells)} |"


def stands(page: Path, name: str, text: str) -> bool:
    """Say whether a page has a text in its place; where it has not, write it there."""
    old = page.read_text("utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, found, rest = old.partition(begin)
    assert found, f"{page.name} has no place for {name}"
    after = rest[rest.index(end) :]
    new = f"{before}{begin}\n{text}\n\n{after}"
    if new != old:
        page.write_text(new, "utf-8")
        sys.stderr.write(f"{page.name}: {name} is written anew\n")
    return new == old
