"""Stock libcrypto in a process that calls it, from the released build to its security update and back."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.servers.checks import State, state_assert
from tests.servers.conftest import Build, Trees
from tests.servers.crypto import PACKAGE, service_start
from tests.servers.crypto import SERVICE_CHECKS as CHECKS
from tests.servers.crypto import SERVICE_GUARDS as GUARDS
from tests.servers.cycle import Scenario, old_new_old
from tests.servers.load import wrk_start
from tests.servers.tls import CHECKS as TLS_CHECKS
from tests.servers.tls import GUARDS as TLS_GUARDS
from tests.servers.tls import tls_start

pytestmark = [pytest.mark.servers, pytest.mark.archive]


@pytest.mark.parametrize("state", list(State))
def test_either_build_answers_as_expected(trees: Trees, run_folder: Path, state: State) -> None:
    tree = trees(PACKAGE)[list(State).index(state)]
    with service_start(tree, run_folder) as server:
        state_assert(CHECKS, server, state)
        state_assert(GUARDS, server, state)


@pytest.mark.live
def test_old_new_old_under_load(trees: Trees, hotpatch: Build, run_folder: Path) -> None:
    file = hotpatch(PACKAGE, "libcrypto.so.3")
    with service_start(trees(PACKAGE)[0], run_folder) as server:
        old_new_old(Scenario(server, file, wrk_start, CHECKS, GUARDS))


@pytest.mark.parametrize("state", list(State))
def test_tls_on_either_build_answers_as_expected(trees: Trees, run_folder: Path, state: State) -> None:
    library = trees(PACKAGE)[list(State).index(state)]
    with tls_start(trees("nginx")[0], library, run_folder) as server:
        state_assert(TLS_CHECKS, server, state)
        state_assert(TLS_GUARDS, server, state)


@pytest.mark.live
def test_tls_old_new_old_under_load(trees: Trees, hotpatch: Build, run_folder: Path) -> None:
    file = hotpatch(PACKAGE, "libcrypto.so.3")
    with tls_start(trees("nginx")[0], trees(PACKAGE)[0], run_folder) as server:
        load = partial(wrk_start, scheme="https")
        old_new_old(Scenario(server, file, load, TLS_CHECKS, TLS_GUARDS))
