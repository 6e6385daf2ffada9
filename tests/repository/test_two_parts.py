"""Both parts of the agent and a delta: one has the network, the other the old images, and a list between them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from hotmend.agent.configuration import ChannelSource
from hotmend.agent.fetching import copy_channel, trust_root
from hotmend.agent.old_images import OldBuilds, delta_will_do, read_old_builds, write_old_builds
from hotmend.agent.paths import Places
from hotmend.agent.sources import ChannelUpdates
from hotmend.agent.uplink.news import whole_name
from hotmend.linux.old_files import read_mapped
from hotmend.linux.process import file_build_id, processes_mapping
from hotmend.model.addresses import BuildId
from hotmend.package.bundle import decompress, pack
from hotmend.package.delta import delta_encode
from hotmend.repository.bundles import Came
from hotmend.repository.deltas import Delta
from hotmend.repository.issues import known_issue
from hotmend.repository.layout import Tier
from hotmend.repository.making import About, hotpatch_release
from tests.hotpatches import sample
from tests.repository.kit import BASELINE, CHANNEL, World, baseline
from tests.repository.web import Web, web_serve

PROGRAM = Path("/usr/bin/tac")
"""Of coreutils; nothing else on a test machine runs it, and it waits for the end of what it reads."""
RELEASE = "2026.12-running"
NAME = f"{RELEASE}.0.hotmend"


@cache
def _bundle() -> bytes:
    """Return a bundle about a program that every test machine has; nothing of it is ever applied."""
    build = file_build_id(PROGRAM)
    assert build
    # base-files is a package that every Debian has installed.
    return pack((replace(sample(), old_build_id=BuildId(build), path="opt/hotmend-test/tac", package="base-files"),))


@cache
def _old_file() -> bytes:
    """Return the program with something behind its end, so that the small bundle has much in common with it."""
    return PROGRAM.read_bytes() + decompress(_bundle())


@pytest.fixture
def web(world: World) -> Iterator[Web]:
    world.publisher().add(baseline(world.now, "second-baseline"), {})
    release = hotpatch_release((_bundle(),), About(CHANNEL, BASELINE, RELEASE), world.now)
    delta = Delta(delta_encode(decompress(_bundle()), [_old_file()]))
    world.publisher().add(release, {NAME: _bundle()}, {NAME: delta})
    with web_serve(world.mirror) as web:
        world.address = web.address
        yield web


@contextmanager
def _running(folder: Path) -> Iterator[int]:
    """Run a copy of the program whose file is deleted; give its pid."""
    copy = folder / "tac"
    copy.write_bytes(_old_file())
    copy.chmod(0o755)
    with subprocess.Popen([copy], stdin=subprocess.PIPE) as process:
        while os.readlink(f"/proc/{process.pid}/exe") != str(copy):
            pass
        copy.unlink()
        try:
            yield process.pid
        finally:
            process.kill()


@pytest.fixture
def parts(world: World, web: Web, tmp_path: Path) -> tuple[ChannelSource, Places]:
    places = Places(tmp_path)
    trust_root(places, world.first_root)
    return ChannelSource(world.address, CHANNEL, Tier.CANARY.value), places


def _looked(channel: ChannelSource, places: Places) -> ChannelUpdates:
    """Let the part without network look what is offered."""
    updates = ChannelUpdates(channel, places, datetime.now(UTC), disk=False)
    updates.offers(processes_mapping())
    return updates


def _copied(places: Places) -> set[str]:
    """Return the names of the bundles and deltas in the copy, without the hashes before them."""
    return {path.name.partition(".")[2] for path in places.mirror_copy.rglob("*.hotmend*")}


@pytest.mark.live
def test_the_delta_is_copied_and_the_old_image_is_read_from_a_process(
    parts: tuple[ChannelSource, Places], tmp_path: Path
) -> None:
    channel, places = parts
    with _running(tmp_path):
        (arrival,) = copy_channel(channel, places)
        assert arrival.how is Came.DELTA
        assert arrival.bytes < len(_bundle())
        assert _copied(places) == {f"{NAME}.delta"}
        updates = _looked(channel, places)
        build = file_build_id(PROGRAM)
        assert read_old_builds(places) == OldBuilds(frozenset({str(build)}), frozenset())
        (offer,) = updates.offers(processes_mapping())
        assert updates.ready(offer).prepared.hotpatches[0].old_build_id == build
        assert copy_channel(channel, places)[0].bytes == 0
    # What was made stays, whether the old image runs on or not.
    assert updates.ready(offer).prepared.hotpatches


@pytest.mark.live
def test_what_cannot_be_made_is_asked_for_as_a_whole(parts: tuple[ChannelSource, Places], tmp_path: Path) -> None:
    """The list is how the part without network gets a bundle whose delta is of no use to it."""
    channel, places = parts
    with _running(tmp_path):
        copy_channel(channel, places)
        (file,) = places.mirror_copy.rglob("*.delta")
        file.write_bytes(bytes(file.stat().st_size))
        before = whole_name(places)
        updates = _looked(channel, places)
        assert read_old_builds(places).whole == {NAME}
        assert whole_name(places) == f"whole {NAME}\n" != before
        (offer,) = updates.offers(processes_mapping())
        with pytest.raises(Exception, match="no such file"):
            updates.ready(offer)
        (arrival,) = copy_channel(channel, places)
        assert arrival.how is Came.WHOLE
        updates = _looked(channel, places)
        assert read_old_builds(places).whole == frozenset()
        (offer,) = updates.offers(processes_mapping())
        assert updates.ready(offer).prepared.hotpatches
        assert copy_channel(channel, places)[0].how is Came.HERE


def test_what_was_withdrawn_is_told_through_the_copy(world: World, parts: tuple[ChannelSource, Places]) -> None:
    """The release's document, which has changed, comes with it; one that is not there any more leaves the reason."""
    channel, places = parts
    copy_channel(channel, places)
    world.publisher().withdraw(CHANNEL, (RELEASE,), "wrong answers")
    copy_channel(channel, places)
    updates = _looked(channel, places)
    assert updates.withdrawn([f"{RELEASE}/{NAME}"]) == {f"{RELEASE}/{NAME}": "wrong answers"}
    found = updates.withdrawn_with("base-files", sample().versions[1])
    assert found == (RELEASE, "wrong answers")
    for file in (
        *places.mirror_copy.rglob(f"*{RELEASE}.release.json"),
        *places.channel.rglob(f"{RELEASE}.release.json"),
    ):
        file.unlink()
    assert updates.withdrawn([f"{RELEASE}/{NAME}"]) == {f"{RELEASE}/{NAME}": "wrong answers"}


def test_known_issues_of_a_superseded_release_are_told_through_the_copy(
    world: World, parts: tuple[ChannelSource, Places]
) -> None:
    """They may concern who has not taken the newer one yet; a copy without them does not stop a turn."""
    channel, places = parts
    later = hotpatch_release((_bundle(),), About(CHANNEL, BASELINE, "2026.12-later", supersedes=(RELEASE,)), world.now)
    world.publisher().add(later, {later.files[0].name: _bundle()})
    copy_channel(channel, places)
    world.publisher().add_issue(CHANNEL, RELEASE, known_issue("It is slow.", world.now, "", "", ""))

    def told() -> tuple[list[str], tuple[str, ...]]:
        updates = ChannelUpdates(channel, places, datetime.now(UTC), disk=False)
        updates.offers(processes_mapping())
        releases, unread = updates.standing_releases()
        return [each.id for each in releases if each.known_issues], unread

    assert told() == ([], ())
    copy_channel(channel, places)
    assert told() == ([RELEASE], ())
    for file in places.mirror_copy.rglob(f"*{RELEASE}.release.json"):
        file.unlink()
    for file in places.channel.rglob(f"*{RELEASE}.release.json"):
        file.unlink()
    releases, (why,) = told()
    assert releases == []
    assert why.startswith(f"Whether {RELEASE} has known issues cannot be told: ")


def test_a_delta_that_the_mirror_spoils_is_replaced_by_the_bundle(
    world: World, parts: tuple[ChannelSource, Places]
) -> None:
    for file in (world.mirror / "targets").rglob("*.delta"):
        file.write_bytes(b"x")
    (arrival,) = copy_channel(*parts)
    assert arrival.how is Came.WHOLE
    assert NAME in _copied(parts[1])


def test_a_delta_is_fetched_where_all_of_its_images_are_there_or_none_is(tmp_path: Path) -> None:
    build = str(file_build_id(PROGRAM))
    release = hotpatch_release((_bundle(),), About(CHANNEL, BASELINE, RELEASE), datetime.now(UTC))
    image = release.files[0].images[0]
    other = type(image)(
        **{name: getattr(image, name) for name in image.__struct_fields__} | {"old_build_id": "00" * 20}
    )
    runs, nothing = OldBuilds(frozenset({build})), OldBuilds()
    assert delta_will_do([image], NAME, runs, tmp_path)
    assert delta_will_do([image], NAME, nothing, tmp_path)
    assert not delta_will_do([image, other], NAME, runs, tmp_path)
    assert delta_will_do([image, other], NAME, nothing, tmp_path)
    assert not delta_will_do([], NAME, runs, tmp_path)
    assert not delta_will_do([image], NAME, replace(runs, whole=frozenset({NAME})), tmp_path)
    on_disk = tmp_path / image.path
    on_disk.parent.mkdir(parents=True)
    shutil.copyfile(PROGRAM, on_disk)
    assert not delta_will_do([image, other], NAME, nothing, tmp_path)
    assert delta_will_do([image, other], NAME, OldBuilds(frozenset({"00" * 20})), tmp_path)


@pytest.mark.parametrize("text", [b"", b"else x\nab\n", b"\xff", b"whole a b\nnot a build\nabcd\n"])
def test_the_list_is_read_as_far_as_it_is_one(tmp_path: Path, text: bytes) -> None:
    places = Places(tmp_path)
    assert read_old_builds(places) == OldBuilds()
    places.old_builds.parent.mkdir(parents=True)
    places.old_builds.write_bytes(text)
    told = read_old_builds(places)
    assert told == (OldBuilds(frozenset({"abcd"}), frozenset({"a", "b"})) if b"abcd" in text else OldBuilds())


def test_the_list_says_nothing_else_of_what_runs(tmp_path: Path) -> None:
    places = Places(tmp_path)
    running = processes_mapping()
    own = str(file_build_id(Path(sys.executable).resolve()))
    write_old_builds(places, running, {own, "00" * 20}, ["b", "a"])
    assert places.old_builds.read_text() == f"whole a b\n{own}\n"


def test_an_image_that_nobody_maps_or_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    running = processes_mapping()
    own = file_build_id(Path(sys.executable).resolve())
    assert own
    assert read_mapped(running, own, 1 << 30) is not None
    assert read_mapped(running, own, 100) is None
    assert read_mapped(running, BuildId("00" * 20), 1 << 30) is None
    assert read_mapped((), own, 1 << 30) is None
