"""What all commands print with: JSON lines or tables on stdout, progress and messages on stderr."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable
from enum import IntEnum
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click
import msgspec

from hotmend.cli.shapes import ErrorShape, ReasonShape
from hotmend.model.verdict import Severity

if TYPE_CHECKING:
    from rich.progress import Progress

PROGRESS_AFTER_SECONDS = 1.0
_PLAIN_WIDTH = 160
"""Columns of a table that does not go to a terminal: nothing there may be cut off at 80."""


_SUBJECT_LETTERS_MAX = 80
_SUBJECTS_LETTERS_MAX = 200


class ExitCode(IntEnum):
    """Part of the interface."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOTHING_TO_DO = 3
    REFUSED = 4


def print_json(value: msgspec.Struct) -> None:
    """Print one object on one line of stdout."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def print_error(message: str, hint: str, *, as_json: bool) -> None:
    """Print a message for a person on stderr, and for a program on stdout."""
    click.echo(f"hotmend: {message}", err=True)
    if hint:
        click.echo(f"  {hint}", err=True)
    if as_json:
        print_json(ErrorShape(message, hint))


def print_note(message: str) -> None:
    """Print a remark on stderr."""
    click.echo(message, err=True)


def print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table on stdout. Columns whose heading begins with `#` hold numbers."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        number = column.startswith("#")
        table.add_column(
            column.removeprefix("#"), justify="right" if number else "left", overflow="fold", no_wrap=number
        )
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console = Console(markup=False, highlight=False, emoji=False)
    if console.is_terminal:
        console.print(table)
        return
    console.width = _PLAIN_WIDTH
    with console.capture() as capture:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def print_reasons(reasons: Iterable[ReasonShape], indent: str = "  ", say: Callable[[str], str] = str) -> None:
    """Print reasons with their subjects, each under its code; `say` translates the words around them."""
    for reason in reasons:
        mark = "refused" if reason.severity == Severity.REFUSAL else "note"
        click.echo(f"{indent}{say(mark)}: {reason.sentence} [{reason.code}]")
        if reason.subjects:
            click.echo(f"{indent}  {_subjects_text(reason.subjects)}")


def _subjects_text(subjects: tuple[str, ...]) -> str:
    """Return as many subjects as fit on two lines or so; --json has them all."""
    shown: list[str] = []
    for subject in subjects:
        text = subject if len(subject) <= _SUBJECT_LETTERS_MAX else subject[: _SUBJECT_LETTERS_MAX - 1] + "…"
        if shown and sum(map(len, shown)) + len(text) > _SUBJECTS_LETTERS_MAX:
            break
        shown.append(text)
    more = len(subjects) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def size_text(count: int) -> str:
    """Return a number of bytes as a person reads it."""
    if count < 10_000:
        return f"{count} B"
    return f"{count / 1000:.0f} kB" if count < 10_000_000 else f"{count / 1_000_000:.1f} MB"


def share_text(part: int, whole: int) -> str:
    """Return `part` of `whole` in per cent, or nothing when there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else ""


class Steps:
    """A progress bar on stderr that appears when the work takes longer than a second.

    With `threaded` a timer makes it appear in the middle of a long step; without, it appears at the first
    step that begins after a second: for callers that fork.
    """

    def __init__(self, *, threaded: bool) -> None:
        self._threaded = threaded
        self._progress = _bar(threaded=threaded) if sys.stderr.isatty() else None
        self._began = time.monotonic()
        self._shown = False
        self._lock = threading.Lock()
        self._timer = threading.Timer(PROGRESS_AFTER_SECONDS, self._show)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        """Start the clock."""
        if self._progress is not None and self._threaded:
            self._timer.start()
        return self

    def __call__(self, step: str, done: int, total: int) -> None:
        """Say what begins now, and how much is done."""
        if self._progress is None:
            return
        self._progress.update(self._progress.task_ids[0], description=step[:60], completed=done, total=max(total, 1))
        if time.monotonic() - self._began > PROGRESS_AFTER_SECONDS:
            self._show()
            if not self._threaded:
                self._progress.refresh()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        self._timer.cancel()
        with self._lock:
            if self._shown and self._progress is not None:
                self._progress.stop()
            self._shown = True

    def _show(self) -> None:
        with self._lock:
            if not self._shown and self._progress is not None:
                self._shown = True
                self._progress.start()


def _bar(*, threaded: bool) -> Progress:
    """Return a bar with one task. Imported where a terminal shows it: it takes longer than small comparisons."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True, markup=False, highlight=False),
        transient=True,
        auto_refresh=threaded,
    )
    progress.add_task("", total=1)
    return progress
