"""Stock nginx, master and two workers, from the released build to its security update and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.servers.checks import State, state_assert
from tests.servers.command import REFUSED, hotmend_run, refusals_of, update_build
from tests.servers.conftest import Build, Trees
from tests.servers.cycle import Scenario, old_new_old
from tests.servers.http2 import Connection
from tests.servers.load import wrk_start
from tests.servers.nginx import ACCEPT, CHECKS, GUARDS, HTTP2_CHECKS, HTTP2_GUARDS, nginx_start
from tests.servers.packages import pair_find

pytestmark = [pytest.mark.servers, pytest.mark.archive]


@pytest.mark.parametrize("state", list(State))
def test_either_build_answers_as_expected(trees: Trees, run_folder: Path, state: State) -> None:
    tree = trees("nginx")[list(State).index(state)]
    with nginx_start(tree, run_folder) as server:
        state_assert(CHECKS, server, state)
        state_assert(GUARDS, server, state)


@pytest.mark.live
def test_old_new_old_under_load(trees: Trees, hotpatch: Build, run_folder: Path) -> None:
    file = hotpatch("nginx", "usr/sbin/nginx", accept=ACCEPT)
    with nginx_start(trees("nginx")[0], run_folder) as server:
        old_new_old(Scenario(server, file, wrk_start, CHECKS, GUARDS))


@pytest.mark.parametrize("state", list(State))
def test_either_build_answers_http2_as_expected(trees: Trees, run_folder: Path, state: State) -> None:
    tree = trees("nginx")[list(State).index(state)]
    with nginx_start(tree, run_folder, http2=True) as server:
        state_assert(HTTP2_CHECKS, server, state)
        state_assert(HTTP2_GUARDS, server, state)


@pytest.mark.live
def test_a_part_leaves_http2_connections_of_the_old_build_alive(trees: Trees, run_folder: Path) -> None:
    """What allocates HTTP/2 connections, and what it is bound to, stays old; the rest goes in and out under load."""
    pair = pair_find("nginx")
    file = run_folder / "nginx-part.hotmend"
    update_build(pair.old, pair.new, file, "usr/sbin/nginx", partial=True)
    stays = tuple(replace(check, new=check.old) for check in HTTP2_CHECKS)
    with nginx_start(trees("nginx")[0], run_folder, http2=True) as server:
        connections = [Connection(server.ports["h2"]) for _ in range(8)]
        body = {connection.get_root() for connection in connections}
        old_new_old(Scenario(server, file, wrk_start, (), (*GUARDS, *HTTP2_GUARDS, *stays)))
        assert {connection.get_root() for connection in connections} == body
        for connection in connections:
            connection.close()


def test_the_larger_http2_connection_is_refused_unless_accepted(tmp_path: Path) -> None:
    """A connection made by the old build is 24 bytes shorter than what the new code writes to.

    Patched all the same, with such connections open, a worker ends with "free(): invalid pointer".
    """
    pair = pair_find("nginx")
    ran = hotmend_run("build", str(pair.old), str(pair.new), "-o", str(tmp_path / "update.hotmend"))
    assert ran.code == REFUSED, ran.told()
    assert "ngx_http_v2_init" in " ".join(refusals_of(ran, "nginx")[ACCEPT[0]]), ran.told()
