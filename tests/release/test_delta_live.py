"""A stock program whose old library is gone from the disk gets its hotpatch by a delta, from its own memory's file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hotmend.agent.old_images import old_image
from hotmend.diff.options import Options
from hotmend.linux.process import processes_mapping
from hotmend.package.bundle import pack
from hotmend.publisher.build import build_update
from hotmend.repository.bundles import Came
from hotmend.repository.client import Fetched
from hotmend.repository.deltas import delta_make
from hotmend.repository.layout import Tier
from hotmend.repository.making import About, hotpatch_release
from tests.repository.kit import BASELINE, CHANNEL, World, baseline
from tests.servers.command import DONE, hotmend_run
from tests.servers.packages import deb_unpack, pair_find

pytestmark = pytest.mark.live

_PROGRAM = """
import lzma, sys
data = bytes(range(256)) * 400
packed = lzma.compress(data)
for _ in sys.stdin:
    print(int(lzma.decompress(packed) == data), flush=True)
"""


def _works(process: subprocess.Popen[str]) -> bool:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline() == "1\n"


def test_a_process_whose_file_is_gone_is_patched_by_a_delta(repository: World, tmp_path: Path) -> None:
    pair = pair_find("liblzma5")
    update = build_update(str(pair.old), str(pair.new), lambda *_: None, Options(frozenset(), partial=True))
    bundle = pack(update.hotpatches)
    tree = deb_unpack(pair.old, tmp_path / "tree")
    library = next(tree.rglob("liblzma.so.5")).resolve()
    delta = delta_make(bundle, [library.read_bytes()])
    assert delta is not None
    world = repository.copy(tmp_path)
    world.publisher().add(baseline(world.now), {})
    release = hotpatch_release((bundle,), About(CHANNEL, BASELINE, "xz"), world.now)
    world.publisher().add(release, {release.files[0].name: bundle}, {release.files[0].name: delta})
    # Nothing but the delta can be fetched.
    for file in (world.mirror / "targets").rglob("*.hotmend"):
        file.unlink()

    process = subprocess.Popen(
        ["/usr/bin/python3", "-c", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"LD_LIBRARY_PATH": str(library.parent)},
    )
    with process:
        assert _works(process)
        library.unlink()
        assert f"{library} (deleted)" in Path(f"/proc/{process.pid}/maps").read_text()
        channel = world.client(Tier.CANARY, old_image(processes_mapping(), tree)).channel()
        fetched = channel.fetch("xz")
        assert isinstance(fetched, Fetched), fetched
        assert [(arrival.how, arrival.bytes) for arrival in channel.arrivals] == [(Came.DELTA, len(delta.data))]
        applied = hotmend_run("apply", str(fetched.files[0][0]), "--pid", str(process.pid))
        assert applied.code == DONE, applied.told()
        assert _works(process)
        shown = hotmend_run("status", "--pid", str(process.pid)).objects[0]["hotpatches"]
        assert [found["active"] for found in shown] == [True]
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0
