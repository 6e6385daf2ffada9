"""Stock apache2 with the event MPM and its modules, from the released build to its security update and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers.apache import (
    ACCEPT,
    CHECKS,
    DAV_CHECKS,
    DAV_MODULES,
    GUARDS,
    PACKAGE,
    START_ONLY_CHECKS,
    apache_start,
)
from tests.servers.checks import State, state_assert
from tests.servers.command import hotmend_run, refusals_of
from tests.servers.conftest import Build, Trees
from tests.servers.cycle import Scenario, old_new_old
from tests.servers.load import ab_start
from tests.servers.packages import pair_find

pytestmark = [pytest.mark.servers, pytest.mark.archive]


@pytest.mark.parametrize("state", list(State))
def test_either_build_answers_as_expected(trees: Trees, run_folder: Path, state: State) -> None:
    tree = trees(PACKAGE)[list(State).index(state)]
    with apache_start(tree, run_folder) as server:
        state_assert(CHECKS, server, state)
        state_assert(GUARDS, server, state)


@pytest.mark.live
def test_old_new_old_under_load(trees: Trees, hotpatch: Build, run_folder: Path) -> None:
    file = hotpatch(PACKAGE, "usr/sbin/apache2", "mod_userdir.so", "mod_deflate.so", accept=ACCEPT)
    with apache_start(trees(PACKAGE)[0], run_folder) as server:
        old_new_old(Scenario(server, file, ab_start, CHECKS, GUARDS))


@pytest.mark.parametrize("state", list(State))
def test_either_build_answers_webdav_as_expected(trees: Trees, run_folder: Path, state: State) -> None:
    tree = trees(PACKAGE)[list(State).index(state)]
    with apache_start(tree, run_folder, DAV_MODULES) as server:
        state_assert(DAV_CHECKS + START_ONLY_CHECKS, server, state)


def test_a_fix_that_only_start_up_code_brings_is_refused(tmp_path: Path) -> None:
    pair = pair_find(PACKAGE)
    ran = hotmend_run("build", str(pair.old), str(pair.new), "-o", str(tmp_path / "update.hotmend"), "--keep-going")
    assert refusals_of(ran, "mod_dav_fs.so"), ran.told()
