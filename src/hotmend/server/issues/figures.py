"""Figures of known issues over all machines."""

from __future__ import annotations

from typing import Final

from hotmend.server.figures.kept import Figure
from hotmend.server.issues import store

Judged = tuple[dict[str, store.Totals], int]
ISSUES: Final[Figure[Judged]] = Figure(
    "issues", Judged, lambda connection, _: (store.totals(connection), store.judged(connection))
)
"""How many machines each issue concerns, and of how many the facts are known."""
