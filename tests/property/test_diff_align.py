"""The compiled matcher finds what the standard library's finds: verdicts rest on which instructions stayed."""

from __future__ import annotations

from difflib import SequenceMatcher

from hypothesis import given, settings
from hypothesis import strategies as st

from hotmend.diff.align import align

_TOKENS = st.lists(st.integers(0, 6), max_size=60)


def _plainly(a: list[int], b: list[int]) -> list[tuple[int, int]]:
    """Align without the shortcuts for common beginnings and ends, by difflib."""
    low = next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    rest_a, rest_b = a[low:], b[low:]
    ends = zip(reversed(rest_a), reversed(rest_b), strict=False)
    high = next((k for k, (x, y) in enumerate(ends) if x != y), min(len(rest_a), len(rest_b)))
    middle_a, middle_b = rest_a[: len(rest_a) - high], rest_b[: len(rest_b) - high]
    blocks = SequenceMatcher(None, middle_a, middle_b, autojunk=False).get_matching_blocks()
    middle = [(low + m.a + k, low + m.b + k) for m in blocks for k in range(m.size)]
    ends_at = [(len(a) - k, len(b) - k) for k in range(high, 0, -1)]
    return [*((k, k) for k in range(low)), *middle, *ends_at]


@settings(deadline=None)  # a busy machine is no mistake
@given(_TOKENS, _TOKENS)
def test_alignment_is_that_of_the_standard_library(a: list[int], b: list[int]) -> None:
    assert align(a, b) == _plainly(a, b)
