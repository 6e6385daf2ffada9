"""Stock libcrypto in a process that calls it, from the released build to its security update and back."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.servers.checks import State, state_assert
from tests.servers.command import REFUSED, hotmend_run, images_list, refusals_of, update_build
from tests.servers.conftest import Trees
from tests.servers.crypto import PACKAGE, service_start
from tests.servers.crypto import SERVICE_CHECKS as CHECKS
from tests.servers.crypto import SERVICE_GUARDS as GUARDS
from tests.servers.cycle import Scenario, old_new_old
from tests.servers.load import wrk_start
from tests.servers.packages import pair_find
from tests.servers.tls import CHECKS as TLS_CHECKS
from tests.servers.tls import GUARDS as TLS_GUARDS
from tests.servers.tls import tls_start

SPLIT_VERSION = "3.0.20-1~deb12u2"

pytestmark = [pytest.mark.servers, pytest.mark.archive]


@pytest.mark.parametrize("state", list(State))
def test_either_build_answers_as_expected(trees: Trees, run_folder: Path, state: State) -> None:
    tree = trees(PACKAGE)[list(State).index(state)]
    with service_start(tree, run_folder) as server:
        state_assert(CHECKS, server, state)
        state_assert(GUARDS, server, state)


@pytest.mark.parametrize("state", list(State))
def test_tls_on_either_build_answers_as_expected(trees: Trees, run_folder: Path, state: State) -> None:
    library = trees(PACKAGE)[list(State).index(state)]
    with tls_start(trees("nginx")[0], library, run_folder) as server:
        state_assert(TLS_CHECKS, server, state)
        state_assert(TLS_GUARDS, server, state)


@pytest.mark.live
@pytest.mark.long
def test_a_part_of_libcrypto_goes_in(trees: Trees, run_folder: Path) -> None:
    """ChaCha20-Poly1305 became two functions and stays old, with its fix; the rest goes in and out under load.

    All of libssl stays old: its structures changed, and of no changed function it is seen that it has no part in that.
    """
    pair = pair_find(PACKAGE)
    file = run_folder / "libssl3-part.hotmend"
    update_build(pair.old, pair.new, file, "libcrypto.so.3", partial=True)
    stays = tuple(replace(check, new=check.old) for check in CHECKS)
    with service_start(trees(PACKAGE)[0], run_folder / "service") as server:
        old_new_old(Scenario(server, file, wrk_start, (), (*GUARDS, *stays)))
    (run_folder / "tls").mkdir()
    (run_folder / "tls").chmod(0o755)
    with tls_start(trees("nginx")[0], trees(PACKAGE)[0], run_folder / "tls") as server:
        old_new_old(Scenario(server, file, partial(wrk_start, scheme="https"), (), TLS_GUARDS))


@pytest.mark.live
def test_libcrypto_is_patched_rightly_or_refused_rightly(trees: Trees, run_folder: Path) -> None:
    """In 3.0.22 one function became two, and ciphers in use hold its address in both of its old roles.

    An update from 3.0.20 may be refused for that, by name; if it is not, then the fix has to arrive and a
    zero-length update has to stay what it was, in a service and in nginx.
    """
    pair = pair_find(PACKAGE)
    file = run_folder / "libssl3.hotmend"
    ran = hotmend_run("build", str(pair.old), str(pair.new), "-o", str(file), "--keep-going")
    image = next(image for image in images_list(ran) if image["name"] == "libcrypto.so.3")
    if image["verdict"] == "baseline required":
        codes = refusals_of(ran, "libcrypto.so.3")
        assert ran.code == REFUSED, ran.told()
        assert codes, image
        assert pair.old_version != SPLIT_VERSION or "function-split" in codes, image
        return
    with service_start(trees(PACKAGE)[0], run_folder / "service") as server:
        old_new_old(Scenario(server, file, wrk_start, CHECKS, GUARDS))
    (run_folder / "tls").mkdir()
    (run_folder / "tls").chmod(0o755)
    with tls_start(trees("nginx")[0], trees(PACKAGE)[0], run_folder / "tls") as server:
        old_new_old(Scenario(server, file, partial(wrk_start, scheme="https"), TLS_CHECKS, TLS_GUARDS))
