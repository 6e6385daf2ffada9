"""A figure beside its goal or its peer, as a table or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number.

    Attributes:
        section: heading it stands under.
        name: what was measured.
        value: the number; None when it could not be measured, and `note` says why.
        unit: of `value` and `beside`.
        beside: the goal or the peer's number.
        beside_name: `goal` or what the peer is.
        note: anything else to read.
    """

    section: str
    name: str
    value: float | None
    unit: str
    beside: float | None = None
    beside_name: str = ""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The value divided by what stands beside it."""
        if self.value is None or not self.beside:
            return None
        return self.value / self.beside


def figures_print(figures: Iterable[Figure], *, as_json: bool) -> None:
    """Print each figure as it comes; with `as_json` one object per line on stdout."""
    section = ""
    for figure in figures:
        if as_json:
            print(json.dumps({**asdict(figure), "ratio": figure.ratio}), flush=True)
            continue
        if figure.section != section:
            section = figure.section
            print(f"\n{section}", flush=True)
        print("  " + figure_line(figure), flush=True)


def figure_line(figure: Figure) -> str:
    """Return one line of the table."""
    value = "not measured" if figure.value is None else f"{number_text(figure.value)} {figure.unit}"
    beside = ""
    if figure.beside is not None:
        beside = f"{figure.beside_name} {number_text(figure.beside)} {figure.unit}"
    ratio = "" if figure.ratio is None else f"x{figure.ratio:.3g}"
    return f"{figure.name:<58} {value:>18}   {beside:<34} {ratio:<8} {figure.note}".rstrip()


def number_text(value: float) -> str:
    """Return a number with as many digits as one wants to read."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def progress(text: str) -> None:
    """Say on stderr what is being done."""
    print(f"bench: {text}", file=sys.stderr, flush=True)
