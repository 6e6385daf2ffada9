"""Our order of Debian versions against dpkg's."""

from __future__ import annotations

import itertools
import subprocess

import pytest

from hotmend.image.deb import version_order

_VERSIONS = (
    "1.0", "1.0-1", "1.0-1~deb12u7", "1.0-1~deb12u10", "1.0-1+deb12u9", "1.0-1+deb12u11", "5:7.0.15-1~deb12u7",
    "5:7.0.15-1~deb12u10", "0:1.0", "1.0~rc1", "1.0a", "1.10", "2.4.68-1~deb12u1", "1:0",
)  # fmt: skip


@pytest.mark.parametrize(("left", "right"), list(itertools.product(_VERSIONS, repeat=2)))
def test_versions_are_ordered_as_dpkg_orders_them(left: str, right: str) -> None:
    relation = {-1: "lt", 0: "eq", 1: "gt"}[version_order(left, right)]
    assert subprocess.run(["dpkg", "--compare-versions", left, relation, right], check=False).returncode == 0
