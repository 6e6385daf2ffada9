"""Stock haproxy with four threads, from the released build to its security update and back."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.servers.checks import State, state_assert
from tests.servers.conftest import Build, Trees
from tests.servers.cycle import Scenario, old_new_old
from tests.servers.haproxy import CHECKS, GUARDS, LIBRARIES, haproxy_start
from tests.servers.load import wrk_start

pytestmark = [pytest.mark.servers, pytest.mark.archive]


@pytest.mark.parametrize("state", list(State))
def test_either_build_answers_as_expected(trees: Trees, run_folder: Path, state: State) -> None:
    tree = trees("haproxy", *LIBRARIES)[list(State).index(state)]
    with haproxy_start(tree, run_folder) as server:
        state_assert(CHECKS, server, state)
        state_assert(GUARDS, server, state)


@pytest.mark.live
def test_old_new_old_under_load(trees: Trees, hotpatch: Build, run_folder: Path) -> None:
    file = hotpatch("haproxy", "usr/sbin/haproxy")
    with haproxy_start(trees("haproxy", *LIBRARIES)[0], run_folder) as server:
        old_new_old(Scenario(server, file, partial(wrk_start, path="/origin"), CHECKS, GUARDS))
