"""From Debian's security archive through a signed channel into a running process."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hotmend.cli.main import run
from hotmend.repository.making import About, hotpatch_release
from tests.repository.kit import BASELINE, CHANNEL, World, baseline
from tests.repository.web import web_serve
from tests.servers.checks import State, state_assert
from tests.servers.command import DONE, hotmend_run, patched_pids, pid_words
from tests.servers.conftest import Build, Trees
from tests.servers.redis import CHECKS, GUARDS, PACKAGE, redis_start

pytestmark = [pytest.mark.servers, pytest.mark.archive, pytest.mark.live]

NOW = datetime.now(UTC).replace(microsecond=0)


def test_from_the_archive_to_a_running_process(
    trees: Trees, hotpatch: Build, run_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The machine gets its hotpatch from a web server that nobody trusts, and nothing from anywhere else."""
    bundle = hotpatch(PACKAGE, "usr/bin/redis-check-rdb").read_bytes()
    world = World(tmp_path).make_keys().found()
    world.publisher().add(baseline(NOW), {})
    release = hotpatch_release((bundle,), About(CHANNEL, BASELINE, "2026.11-redis", urgency="high"), NOW)
    world.publisher().add(release, {release.files[0].name: bundle})
    world.promote(BASELINE, release.id)
    assert {check.cve for check in CHECKS} <= set(release.cves)

    (tmp_path / "root.json").write_bytes(world.first_root)
    with web_serve(world.mirror) as web:
        machine = ["--state", str(tmp_path / "machine"), "--root", str(tmp_path / "root.json"), "-o", str(tmp_path)]
        assert run(["channel", "fetch", web.address, CHANNEL, release.id, *machine, "--json"]) == DONE
    files = json.loads(capfd.readouterr().out)["files"]

    with redis_start(trees(PACKAGE)[0], run_folder) as server:
        born = server.identities()
        state_assert(CHECKS, server, State.VULNERABLE)
        applied = hotmend_run("apply", files[1], *pid_words(server.pids()))
        assert applied.code == DONE, applied.told()
        state_assert(CHECKS, server, State.FIXED)
        state_assert(GUARDS, server, State.FIXED)
        assert patched_pids(server.pids()) == {identity.pid for identity in born}
        assert server.identities() == born
