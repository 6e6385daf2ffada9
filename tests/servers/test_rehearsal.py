"""`apply --rehearse` on stock servers: a stand-in of the old build first, and the real one goes on serving."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.servers.checks import State, state_assert
from tests.servers.command import DONE, REFUSED, Ran, hotmend_run, pid_words
from tests.servers.conftest import Build, Trees
from tests.servers.nginx import ACCEPT, CHECKS, GUARDS, nginx_start
from tests.servers.process import Server
from tests.servers.redis import CHECKS as REDIS_CHECKS
from tests.servers.redis import PACKAGE, redis_start

pytestmark = [pytest.mark.servers, pytest.mark.archive, pytest.mark.live]
GET = r"""bash -c 'exec 3<>/dev/tcp/127.0.0.1/PORT && printf "GET / HTTP/1.0\\r\\n\\r\\n" >&3 && tail -1 <&3'"""


def _rehearse(server: Server, file: Path, command: str, *words: str) -> Ran:
    options = ["--rehearse", "--rehearse-seconds", "1", "--rehearse-command", command, *words]
    return hotmend_run("apply", str(file), *options, *pid_words(server.pids()))


def test_nginx_goes_on_after_its_stand_in(trees: Trees, hotpatch: Build, run_folder: Path) -> None:
    """Its master runs as root with workers of another user, and has written over its arguments."""
    file = hotpatch("nginx", "usr/sbin/nginx", accept=ACCEPT)
    with nginx_start(trees("nginx")[0], run_folder) as server:
        born = server.identities()
        ran = _rehearse(server, file, GET.replace("PORT", str(server.port)))
        assert ran.code == DONE, ran.told()
        assert [r["stand_in"]["processes"] for r in ran.objects] == [3, 3, 3]
        state_assert(CHECKS, server, State.FIXED)
        state_assert(GUARDS, server, State.FIXED)
        assert server.identities() == born


def test_redis_is_left_alone_when_the_answers_differ(trees: Trees, hotpatch: Build, run_folder: Path) -> None:
    file = hotpatch(PACKAGE, "usr/bin/redis-check-rdb")
    with redis_start(trees(PACKAGE)[0], run_folder) as server:
        ran = _rehearse(server, file, f"redis-cli -p {server.port} INFO server")
        assert ran.code == REFUSED, ran.told()
        assert "rehearsal-outputs-differ" in json.dumps(ran.objects)
        state_assert(REDIS_CHECKS, server, State.VULNERABLE)
        assert _rehearse(server, file, f"redis-cli -p {server.port} PING").code == DONE
        state_assert(REDIS_CHECKS, server, State.FIXED)
