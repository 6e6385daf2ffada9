"""What an unplanned baseline says of its builds."""

from __future__ import annotations

from hotmend.model.hotpatch import TypeCoverage
from hotmend.model.verdict import Reason, Verdict, note, refusal
from hotmend.publisher.release.brief import PATHS_MAX, SUBJECTS_MAX, sentences, telling
from hotmend.repository.releases import ReleaseImage

MANY = tuple(f"function_{number}" for number in range(SUBJECTS_MAX + 3))


def _image(path: str, verdict: Verdict, *reasons: Reason) -> ReleaseImage:
    return ReleaseImage(path, "p", "1", "2", "aa" * 20, "bb" * 20, verdict, reasons, 9, 9, 3, 1, TypeCoverage.NONE)


def test_only_what_stands_in_the_way_is_told() -> None:
    grew = refusal("structure-layout-changed", "A structure grew.", *MANY)
    left = note("left-for-baseline", "These stay.", *MANY[:SUBJECTS_MAX])
    kept = note("line-numbers-kept", "Line numbers stay.", *MANY)
    refused = _image("/usr/lib/a.so", Verdict.BASELINE_REQUIRED, kept, grew)
    partial = _image("/usr/lib/b.so", Verdict.HOTPATCH_WITH_NOTES, left, kept)
    whole = _image("/usr/lib/c.so", Verdict.HOTPATCH_WITH_NOTES, kept)
    same = _image("/usr/lib/d.so", Verdict.NO_CHANGE)
    unsaid = _image("/usr/lib/e.so", Verdict.BASELINE_REQUIRED)
    told = telling([refused, partial, whole, same, unsaid])
    assert [(image.path, [reason.code for reason in image.reasons]) for image in told] == [
        ("/usr/lib/a.so", ["structure-layout-changed"]),
        ("/usr/lib/b.so", ["left-for-baseline"]),
        ("/usr/lib/e.so", []),
    ]
    assert told[0].reasons[0].subjects == (*MANY[:SUBJECTS_MAX], "and 3 more")
    assert told[1].reasons[0] == left  # as many as there may be are all of them
    assert told[0].old_build_id == refused.old_build_id


def test_each_sentence_is_told_once_with_the_paths_it_is_about() -> None:
    paths = [f"/usr/lib/{number}.so" for number in range(PATHS_MAX + 2)]
    told = sentences([*(f"{path}: A structure grew." for path in paths), "/usr/lib/0.so: Another.", "no colon"])
    assert told == (
        f"{', '.join(paths[:PATHS_MAX])}, and 2 more: A structure grew.",
        "/usr/lib/0.so: Another.",
        "no colon",
    )
    assert sentences(["a: one: two", "a: one: two"]) == ("a: one: two",)
    assert sentences([]) == ()
