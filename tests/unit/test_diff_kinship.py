"""Two versions of a program are told from two builds of one before they are compared."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hotmend.diff.kinship import RUN, SHARE_MIN, shared_runs

_SIZES = st.lists(st.integers(1, 1 << 16), max_size=40).map(lambda sizes: np.array(sizes, np.int64))


@given(_SIZES)
def test_an_image_is_its_own_kin(sizes: np.ndarray) -> None:
    assert shared_runs(sizes, sizes) == max(len(sizes) - RUN + 1, 0) / max(len(sizes), 1)


@given(_SIZES, _SIZES)
def test_kinship_is_a_share_and_the_same_both_ways(old: np.ndarray, new: np.ndarray) -> None:
    share = shared_runs(old, new)
    assert 0 <= share <= 1
    assert share == shared_runs(new, old)


def test_repaired_functions_leave_most_runs_as_they_were() -> None:
    sizes = np.random.default_rng(1).integers(8, 3000, 5000)
    repaired = sizes.copy()
    repaired[::100] += 16
    assert shared_runs(sizes, repaired) > 0.9


def test_the_same_sizes_in_another_order_are_no_kin() -> None:
    generator = np.random.default_rng(2)
    sizes = generator.integers(8, 200, 20_000) // 16 * 16
    assert shared_runs(sizes, generator.permutation(sizes)) < SHARE_MIN
