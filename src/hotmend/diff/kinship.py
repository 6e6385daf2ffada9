"""Whether two images are builds of the same program at all, before anything expensive is done.

A security update changes a few functions, and the others keep their sizes and their neighbours. Of the runs of five
neighbouring functions, measured on 20 images of Debian 12, between 86 and 100 % keep their sizes in such an update;
between two versions of a browser or a compiler, 0 to 25 % do. Nothing lies between. Comparing the latter takes
gigabytes and many minutes, to say in the end that thousands of structures moved.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from hotmend.image.image import Image
from hotmend.model.verdict import Reason, refusal

RUN: Final = 5
"""Neighbouring functions whose sizes are looked at together: single sizes agree by chance."""
FUNCTIONS_MIN: Final = 1000
"""Images with fewer functions are compared in any case: it costs little."""
SHARE_MIN: Final = 0.4
BARE_CODE_MIN: Final = 1 << 20
"""Bytes of code without frame information from which an image is not compared, if they are most of its code."""

_PRIME = np.uint64(0x100000001B3)


def judge_kinship(old: Image, new: Image) -> tuple[Reason, ...]:
    """Return why the two are not worth comparing, or nothing."""
    for image in (old, new):
        bare, code = _bare_bytes(image), _code_bytes(image)
        if bare > max(BARE_CODE_MIN, code / 2):
            sentence = "most of the code has no frame information, so that its functions cannot be told apart"
            return (refusal("code-without-frames", sentence, f"{bare} of {code} bytes"),)
    if min(len(old.frames), len(new.frames)) < FUNCTIONS_MIN:
        return ()
    share = shared_runs(_sizes(old), _sizes(new))
    if share >= SHARE_MIN:
        return ()
    sentence = "the new build is another version of the program, with hardly a function where it was"
    return (refusal("another-version", sentence, f"{share:.1%} of the runs of {RUN} functions kept their sizes"),)


def shared_runs(old: np.ndarray, new: np.ndarray) -> float:
    """Return the share of runs of `RUN` neighbouring sizes that both have, repetitions counted, from 0 to 1.

    Args:
        old: sizes of the old functions in link order, in bytes.
        new: the same of the new ones.
    """
    (left, many_left), (right, many_right) = (np.unique(_runs(sizes), return_counts=True) for sizes in (old, new))
    _, at_left, at_right = np.intersect1d(left, right, assume_unique=True, return_indices=True)
    both = np.minimum(many_left[at_left], many_right[at_right]).sum()
    return float(both) / max(len(old), len(new), 1)


def _runs(sizes: np.ndarray) -> np.ndarray:
    """Return one number for each run of `RUN` sizes."""
    count = max(len(sizes) - RUN + 1, 0)
    result = np.zeros(count, np.uint64)
    for k in range(RUN):
        result = (result ^ sizes[k : k + count].astype(np.uint64)) * _PRIME
    return result


def _sizes(image: Image) -> np.ndarray:
    return np.fromiter((frame.extent.size for frame in image.frames), np.int64, len(image.frames))


def _code_bytes(image: Image) -> int:
    return sum(segment.extent.size for segment in image.segments if segment.executable)


def _bare_bytes(image: Image) -> int:
    return _code_bytes(image) - int(_sizes(image).sum())
