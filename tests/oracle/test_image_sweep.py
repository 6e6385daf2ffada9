"""The survey with arrays against the survey that decodes one instruction after the other, over installed images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hotmend.image import references
from hotmend.image.elf import read_image

_IMAGES = ("/bin/bash", "/usr/bin/perl", "/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libcrypto.so.3")


@pytest.mark.parametrize("path", [p for p in _IMAGES if Path(p).exists()])
@pytest.mark.parametrize("fixed", [False, True])
def test_both_ways_find_the_same_references(path: str, fixed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    image = read_image(path)
    if fixed:  # what only a fixed image has: every number may be an address
        object.__setattr__(image, "fixed", True)
    swept = references.survey(image)
    assert sum(c.size for c in swept.codes) > references.SWEEP_BYTES_MIN
    monkeypatch.setattr(references, "SWEEP_BYTES_MIN", 1 << 62)
    plain = references.survey(image)
    assert len(plain.references.field) > 1000
    for name in references.References.__slots__:
        assert np.array_equal(getattr(swept.references, name), getattr(plain.references, name)), name
    assert swept.keys == plain.keys
    assert swept.invalid == plain.invalid
