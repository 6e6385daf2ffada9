"""What happens to running processes: native answers, the live proof of the harmless, the harm of the dangerous.

The harm is shown with the engine itself: its refusals are switched off, the running old build is changed to the
new code all the same, and must then answer wrong, or die. Where the answer is right, nothing is proven.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

from hotmend.model.verdict import Severity, Verdict
from tests.scenarios.builds import Pair
from tests.scenarios.catalog import Case
from tests.scenarios.engine import Built, HotmendEngine
from tests.scenarios.play import play_plain
from tests.scenarios.target import Target

ASKS = 3
HARM_SECONDS = 3.0
INCOMPLETE = frozenset({"unmapped-reference", "conflicting-evidence", "new-copied-import", "mixed-page"})
"""With these the new code lacks addresses: what it then does wrong would show nothing about the change."""


@dataclass(frozen=True, slots=True)
class Harm:
    """What blindly applied code did.

    Attributes:
        proven: whether the process answered wrong or died.
        said: the answer, the fate, or why nothing could be applied.
    """

    proven: bool
    said: str


def native_answer(program: Path) -> str:
    """Return what a build answers when it started as itself."""
    with Target(program) as target:
        answers = {target.ask() for _ in range(ASKS)}
        target.quit()
    return "|".join(sorted(answers))


def prove_live(case: Case, pair: Pair, built: Built) -> str:
    """Return an empty string where old -> apply -> new -> revert -> old, twice, is what happened; else what did."""
    try:
        play_plain(case, pair, HotmendEngine(), built)
    except AssertionError as error:
        return str(error).splitlines()[0] if str(error) else "assertion failed"
    return ""


def prove_part(case: Case, pair: Pair, old: str, new: str) -> str:
    """Apply the part that `--partial` makes of a refused update; return what went wrong, or an empty string.

    A pair has one change, so that each word of the answer has to be that of one of the two builds.
    """
    images = [(pair.old.image(kind), pair.new.image(kind)) for kind in case.scenario.images]
    try:
        built = HotmendEngine().build(images, partial=True)
    except Exception as error:  # noqa: BLE001 - whatever it raises is a defect to show
        return f"the part cannot be built: {type(error).__name__}: {error}".splitlines()[0]
    if not built.patches:
        return ""
    with Target(pair.old.program) as target:
        try:
            if HotmendEngine().apply(built, target.pid, HARM_SECONDS):
                return ""  # refused by what the process is like, and nothing was done
            for answer in {target.ask() for _ in range(ASKS)}:
                words = zip(answer.split(), old.split(), new.split(), strict=True)
                if any(said not in (before, after) for said, before, after in words):
                    return f"with a part applied the process answers {answer!r}, for {old!r} or {new!r}"
            HotmendEngine().revert(built, target.pid, HARM_SECONDS)
            return "" if (back := target.ask()) == old else f"after a part was reverted the answer is {back!r}"
        except (AssertionError, ValueError) as error:
            return f"with a part applied: {error}".splitlines()[0]


class BlindEngine(HotmendEngine):
    """The engine without its refusals: whatever a hotpatch can be made of becomes one."""

    def build(self, pairs: Sequence[tuple[Path, Path]], *, partial: bool = False) -> Built:
        """Make the hotpatch as if there were no reason against it."""
        from hotmend.diff import pipeline

        def never_refuse(reasons: object, *, changed: bool) -> Verdict:
            del reasons
            return Verdict.HOTPATCH_WITH_NOTES if changed else Verdict.NO_CHANGE

        with mock.patch.object(pipeline, "judge", never_refuse):
            built = super().build(pairs, partial=partial)
        patches = tuple(
            replace(patch, reasons=tuple(replace(r, severity=Severity.NOTE) for r in patch.reasons))
            for patch in built.patches
        )
        return replace(built, patches=patches)


def prove_harm(case: Case, pair: Pair, expected: str) -> Harm:
    """Change a running old build to the new code whatever speaks against it, and see what it answers."""
    try:
        built = BlindEngine().build([(pair.old.image(kind), pair.new.image(kind)) for kind in case.scenario.images])
    except Exception as error:  # noqa: BLE001 - what a hotpatch cannot be made of is not shown, and said so
        return Harm(proven=False, said=f"cannot be built: {type(error).__name__}: {error}".splitlines()[0])
    if not built.patches:
        # The harm is that nothing happens where the update says that something must.
        return Harm(proven=native_answer(pair.old.program) != expected, said="no code to apply")
    if missing := INCOMPLETE & {reason.code for reason in built.reasons}:
        return Harm(proven=False, said=f"cannot be built: {', '.join(sorted(missing))}")
    with Target(pair.old.program) as target:
        refused = HotmendEngine().apply(built, target.pid, HARM_SECONDS)
        if refused:
            return Harm(proven=False, said=f"cannot be applied: {refused[0].code}")
        try:
            answer = "|".join(sorted({target.ask() for _ in range(ASKS)}))
        except AssertionError as error:
            return Harm(proven=True, said=str(error).splitlines()[0])
        return Harm(proven=answer != expected, said=answer)
