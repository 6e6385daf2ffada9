"""Whether old invocations may go on in old code in a process (`apply --consistency lazy`).

The builder proves it for one image by itself (`diff.lazy`); what it could not know is who else changes here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hotmend.live.needs import Target
from hotmend.live.safety import Hit
from hotmend.model.verdict import Reason, note, refusal

_RESTART = "where a function never returns, build with --partial or restart"


def lazy_obstacles(targets: Sequence[Target], earlier: Collection[str]) -> tuple[Reason, ...]:
    """Return why old invocations may not go on beside new ones in a process; nothing where that is proven.

    Args:
        targets: all images of the update that the process maps, changed already or not.
        earlier: ids of targets that take over from an earlier hotpatch.
    """
    if len(targets) > 1:
        sentence = (
            "several images change at once, and how old code of one gets on with new code of another is not proven"
        )
        return (refusal("lazy-several-images", sentence, *(t.hotpatch.name for t in targets)),)
    if earlier:
        sentence = "an earlier hotpatch is active, and what is proven speaks of the old build's code; apply without it"
        return (refusal("lazy-over-earlier", sentence, *(t.hotpatch.name for t in targets if t.id in earlier)),)
    found: list[Reason] = []
    for target in targets:
        proof = target.hotpatch.lazy
        if proof is None or not (proof.proven or proof.obstacles):
            sentence = f"the hotpatch of {target.hotpatch.name} does not say whether old code may go on; build it again"
            found.append(refusal("lazy-not-examined", sentence))
        else:
            found += proof.obstacles
    return tuple(found)


def advice(obstacles: Sequence[Reason]) -> str:
    """Return what would help where a function that changes is active."""
    if not obstacles:
        return (
            "wait longer (--deadline), or apply with --consistency lazy, which is proven for this update and lets "
            f"what is active go on in old code; {_RESTART}"
        )
    codes = ", ".join(dict.fromkeys(reason.code for reason in obstacles))
    return f"wait longer (--deadline); --consistency lazy is not proven for this update ({codes}); {_RESTART}"


def goes_on(pid: int, hits: Sequence[Hit]) -> tuple[Reason, ...]:
    """Return the note that says which threads may go on in old code; nothing where none does."""
    if not hits:
        return ()
    names = ", ".join(sorted({hit.function for hit in hits}))
    tids = ", ".join(str(tid) for tid in sorted({hit.tid for hit in hits}))
    sentence = (
        f"process {pid}: {names} may go on in old code in thread {tids} until it returns; "
        "what the update changes in it comes with the next call"
    )
    subjects = [f"{name} in thread {tid}" for name, tid in sorted({(hit.function, hit.tid) for hit in hits})]
    return (note("old-code-goes-on", sentence, *subjects),)
