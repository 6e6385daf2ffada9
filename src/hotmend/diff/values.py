"""The rules about values that live on, and about what functions owe each other: one place to see them all."""

from __future__ import annotations

from hotmend.diff.align import Aligned
from hotmend.diff.changes import Changes
from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence
from hotmend.diff.elements import judge_elements
from hotmend.diff.encoding import judge_encoding
from hotmend.diff.finding import Finding


def judge_values(c: Correspondence, contents: Contents, aligned: Aligned) -> list[Finding]:
    """Return what these rules find in the changed functions."""
    changes = Changes(c, aligned)
    return [
        *judge_encoding(c, changes),
        *judge_elements(c, changes),
    ]
