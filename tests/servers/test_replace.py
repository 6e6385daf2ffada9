"""Two hotpatches of one update, of which the later one changes more functions, take turns in servers under load."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cycles import SUBJECTS, size_of
from hotmend.live.driver import Options, apply, revert
from hotmend.live.gate import hotpatch_id
from hotmend.live.machine import State
from hotmend.live.registry import process_status
from hotmend.model.hotpatch import Hotpatch
from hotmend.package.bundle import load
from tests.servers.command import hotmend_run
from tests.servers.packages import deb_unpack, pair_find

pytestmark = [pytest.mark.servers, pytest.mark.archive, pytest.mark.live, pytest.mark.slow]
ROUNDS = 4
OPTIONS = Options(deadline_seconds=20.0)


@pytest.mark.parametrize(
    ("name", "lesser", "greater"),
    [("redis", (), ("--exact",)), ("nginx", ("--partial",), SUBJECTS["nginx"].words)],
    ids=["redis", "nginx"],
)
def test_no_request_fails_while_they_take_turns(
    name: str, lesser: tuple[str, ...], greater: tuple[str, ...], served: Path, run_folder: Path
) -> None:
    """One with and one without what differs in line numbers alone; a part and the whole."""
    subject, folder = SUBJECTS[name], served / f"replace-{name}"
    pair = pair_find(subject.package)
    old, new = (
        deb_unpack(deb, folder / build) / subject.image for deb, build in ((pair.old, "old"), (pair.new, "new"))
    )

    def built(*words: str) -> tuple[Hotpatch, ...]:
        target = folder / f"patch{''.join(words[:1])}.hotmend"
        ran = hotmend_run("build", str(old), str(new), "-o", str(target), *words)
        assert target.exists(), ran.told()
        return load(target)

    first, later = built(*lesser), built(*greater)
    assert len(later[0].redirections) > len(first[0].redirections)
    later_ids = [hotpatch_id(hotpatch) for hotpatch in later]
    with subject.start(folder / "old", run_folder) as server:
        pids, sizes = server.pids(), []
        traffic = subject.load(server)
        for _ in range(ROUNDS):
            assert {r.state for r in apply(first, pids, OPTIONS)} == {"applied"}
            assert {r.state for r in apply(later, pids, OPTIONS)} == {"applied"}
            states = [sorted(s.state for s in process_status(pid)) for pid in pids]
            assert states == [[State.REPLACED, State.SETTLED]] * len(pids)
            assert {r.state for r in revert(later_ids, pids, OPTIONS)} == {"reverted"}
            assert {r.state for r in apply(later, pids, OPTIONS)} == {"applied"}
            assert {r.state for r in revert(None, pids, OPTIONS)} == {"reverted"}
            sizes.append([(size_of(pid).maps, size_of(pid).descriptors) for pid in pids])
        result = traffic.stop()
        assert server.pids() == pids
    assert (result.failures, result.requests > 0) == (0, True), result
    assert [maps for maps, _ in sizes[0]] == [maps for maps, _ in sizes[-1]]
