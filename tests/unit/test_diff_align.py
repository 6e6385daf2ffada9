"""Alignment of instructions, and pairing of codes in link order."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import cast

import pytest

from hotmend.diff import align as align_module
from hotmend.diff.align import align
from hotmend.diff.pair import pair_identical
from hotmend.image.references import Survey


def _tokens(text: str) -> list[tuple[int, ...]]:
    return [(ord(letter),) for letter in text]


@pytest.mark.parametrize(
    ("old", "new", "pairs"),
    [
        ("", "", []),
        ("", "abc", []),
        ("abc", "abc", [(0, 0), (1, 1), (2, 2)]),
        ("abc", "abXc", [(0, 0), (1, 1), (2, 3)]),
        ("abXc", "abc", [(0, 0), (1, 1), (3, 2)]),
        ("aXc", "aYc", [(0, 0), (2, 2)]),
        ("abcd", "WXYZ", []),
        ("aa", "aaa", [(0, 0), (1, 1)]),
        ("aPbcQd", "aRbcSd", [(0, 0), (2, 2), (3, 3), (5, 5)]),
        ("xbcdy", "PPbcdQ", [(1, 2), (2, 3), (3, 4)]),
    ],
)
def test_equal_instructions_are_aligned_in_order(old: str, new: str, pairs: list[tuple[int, int]]) -> None:
    assert align(_tokens(old), _tokens(new)) == pairs


def test_too_long_a_middle_leaves_both_ends_aligned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(align_module, "_WORK_MAX", 5)
    assert align(_tokens("aPbbQz"), _tokens("aRbbSz")) == [(0, 0), (5, 5)]


def test_alignment_is_always_a_chain_of_equal_tokens() -> None:
    chance = random.Random(7)
    for _ in range(300):
        a = [(chance.randrange(4),) for _ in range(chance.randrange(12))]
        b = [(chance.randrange(4),) for _ in range(chance.randrange(12))]
        pairs = align([*a], [*b])
        assert all(a[i] == b[j] for i, j in pairs)
        assert pairs == sorted(pairs)
        assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
        assert align([*a], [*a]) == [(i, i) for i in range(len(a))]


def _pair(old: str, new: str) -> dict[int, int]:
    """Pair codes whose normalised bytes are one letter each."""
    sides = [cast(Survey, SimpleNamespace(keys=tuple(k.encode() for k in keys))) for keys in (old, new)]
    return pair_identical(*sides)


@pytest.mark.parametrize(
    ("old", "new", "pairs"),
    [
        ("", "", {}),
        ("abc", "abc", {0: 0, 1: 1, 2: 2}),
        ("abc", "aXc", {0: 0, 2: 2}),
        ("abc", "aXbc", {0: 0, 1: 2, 2: 3}),
        ("aaa", "aaa", {0: 0, 1: 1, 2: 2}),
        ("xaay", "xaaay", {0: 0, 1: 1, 2: 2, 3: 4}),
        ("xdy", "xddy", {0: 0, 1: 1, 2: 3}),
        ("mdnd", "dmdn", {0: 1, 1: 2, 2: 3}),
        ("abcM", "Mabc", {0: 1, 1: 2, 2: 3, 3: 0}),
        ("abXcd", "cdXab", {0: 3, 1: 4, 2: 2, 3: 0, 4: 1}),
    ],
)
def test_codes_with_equal_bytes_pair_in_link_order(old: str, new: str, pairs: dict[int, int]) -> None:
    assert _pair(old, new) == pairs


def test_pairs_are_one_to_one_and_equal() -> None:
    chance = random.Random(11)
    for _ in range(300):
        old = "".join(chance.choice("abcdefgh") for _ in range(chance.randrange(15)))
        new = "".join(chance.choice("abcdefgh") for _ in range(chance.randrange(15)))
        pairs = _pair(old, new)
        assert all(old[i] == new[j] for i, j in pairs.items())
        assert len(set(pairs.values())) == len(pairs)
        once = {k for k in old if old.count(k) == new.count(k) == 1}
        assert once <= {old[i] for i in pairs}, "bytes that occur once on both sides are certain"
