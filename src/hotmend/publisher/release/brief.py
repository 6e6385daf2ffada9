"""What an unplanned baseline says of its builds: what speaks against a hotpatch, short enough to be read and fetched.

Every machine fetches the document. Whoever wants all functions that a reason rests on compares both builds again with
`hotmend build`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from hotmend.model.verdict import Reason, Severity, Verdict
from hotmend.repository.releases import ReleaseImage

LEFT: Final = frozenset({"left-for-baseline", "fixes-not-held"})
"""Notes of a partial hotpatch on what is not in it."""
SUBJECTS_MAX: Final = 8
"""Of one reason."""
PATHS_MAX: Final = 8
"""Of one sentence."""


def telling(images: Iterable[ReleaseImage]) -> tuple[ReleaseImage, ...]:
    """Return the images that stand in the way of a whole hotpatch, each with what speaks against it.

    Left out are images whose code did not change or went into the hotpatch as a whole, notes on how that was judged,
    and all but the first subjects of a reason.
    """
    brief = (replace(image, reasons=tuple(map(_brief, filter(_against, image.reasons)))) for image in images)
    return tuple(image for image in brief if image.reasons or image.verdict is Verdict.BASELINE_REQUIRED)


def _against(reason: Reason) -> bool:
    return reason.severity is Severity.REFUSAL or reason.code in LEFT


def _brief(reason: Reason) -> Reason:
    return Reason(reason.code, reason.severity, reason.sentence, _first(reason.subjects, SUBJECTS_MAX))


def sentences(reasons: Iterable[str]) -> tuple[str, ...]:
    """Return `PATH: SENTENCE` lines with each sentence once, and the paths that it is about."""
    paths: dict[str, dict[str, None]] = defaultdict(dict)
    for reason in reasons:
        path, found, sentence = reason.partition(": ")
        paths[sentence if found else reason][path if found else ""] = None
    return tuple(": ".join(filter(None, (", ".join(_first(tuple(p), PATHS_MAX)), text))) for text, p in paths.items())


def _first(items: tuple[str, ...], count: int) -> tuple[str, ...]:
    more = len(items) - count
    return items if more <= 0 else (*items[:count], f"and {more} more")
