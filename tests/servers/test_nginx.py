"""Stock nginx, master and two workers, from the released build to its security update and back."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.servers.checks import State, state_assert
from tests.servers.conftest import Build, Trees
from tests.servers.cycle import Scenario, old_new_old
from tests.servers.http2 import Connection
from tests.servers.load import wrk_start
from tests.servers.nginx import CHECKS, GUARDS, nginx_start

OPEN_CONNECTIONS = 8
OPEN_REQUESTS = 40

pytestmark = [pytest.mark.servers, pytest.mark.archive]


@pytest.mark.parametrize("state", list(State))
def test_either_build_answers_as_expected(trees: Trees, run_folder: Path, state: State) -> None:
    tree = trees("nginx")[list(State).index(state)]
    with nginx_start(tree, run_folder) as server:
        state_assert(CHECKS, server, state)
        state_assert(GUARDS, server, state)


@pytest.mark.live
def test_old_new_old_under_load(trees: Trees, hotpatch: Build, run_folder: Path) -> None:
    file = hotpatch("nginx", "usr/sbin/nginx")
    with nginx_start(trees("nginx")[0], run_folder) as server:
        old_new_old(Scenario(server, file, wrk_start, CHECKS, GUARDS))


@pytest.mark.live
def test_http2_connections_that_are_open_at_the_switch_go_on(trees: Trees, hotpatch: Build, run_folder: Path) -> None:
    """The new build's connection object is larger; one made by the old build must not be used as if it were."""
    file = hotpatch("nginx", "usr/sbin/nginx")
    with nginx_start(trees("nginx")[0], run_folder) as server, contextlib.ExitStack() as stack:
        scenario = Scenario(server, file, wrk_start, CHECKS, GUARDS)
        born = server.identities()
        clients = [stack.enter_context(Connection(server.ports["h2"])) for _ in range(OPEN_CONNECTIONS)]
        for word in ("apply", "revert"):
            assert [client.get_root() for client in clients] == [b"hello\n"] * OPEN_CONNECTIONS
            scenario.change(word)
            for _ in range(OPEN_REQUESTS):
                assert [client.get_root() for client in clients] == [b"hello\n"] * OPEN_CONNECTIONS
        stack.close()
        scenario.expect(State.VULNERABLE)
        assert server.identities() == born, f"a worker died: {(run_folder / 'error.log').read_text()}"
