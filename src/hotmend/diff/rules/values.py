"""The rules about values that live on, and about what functions owe each other: one place to see them all."""

from __future__ import annotations

from hotmend.diff.align import Aligned
from hotmend.diff.compare import Contents
from hotmend.diff.correspond import Correspondence
from hotmend.diff.finding import Finding
from hotmend.diff.rules.changes import Changes
from hotmend.diff.rules.elements import judge_elements
from hotmend.diff.rules.encoding import judge_encoding
from hotmend.diff.rules.generated import judge_generators
from hotmend.diff.rules.interface import judge_arguments
from hotmend.diff.rules.locks import judge_locks
from hotmend.diff.rules.members import judge_members
from hotmend.diff.rules.ownership import judge_ownership
from hotmend.diff.rules.renumbered import judge_renumbered
from hotmend.diff.rules.runs import judge_runs
from hotmend.diff.rules.started import judge_startup
from hotmend.diff.rules.variables import judge_offsets, judge_variables


def judge_values(c: Correspondence, contents: Contents, aligned: Aligned, changes: Changes) -> list[Finding]:
    """Return what these rules find in the changed functions."""
    return [
        *judge_encoding(c, changes),
        *judge_renumbered(c, contents, aligned, changes),
        *judge_elements(c, changes),
        *judge_ownership(c, changes),
        *judge_locks(c),
        *judge_startup(c, contents, aligned),
        *judge_arguments(c, aligned),
        *judge_members(c, aligned, changes),
        *judge_variables(c, aligned),
        *judge_runs(c),
        *judge_offsets(c, contents, changes),
        *judge_generators(c, aligned),
    ]
