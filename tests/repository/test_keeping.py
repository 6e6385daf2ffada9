"""The copy that the part of the agent with a network keeps: another client verifies all of it again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotmend.agent.configuration import ChannelSource
from hotmend.agent.fetching import copy_channel, trust_root
from hotmend.agent.paths import Places
from hotmend.agent.sources import copy_of
from hotmend.model.errors import HotmendError, UsageError
from hotmend.model.verdict import Reason
from hotmend.repository.client import Channel, Fetched, open_channel, trust
from hotmend.repository.layout import Tier
from tests.repository.kit import BASELINE, CHANNEL, HOTPATCH, World, bundle
from tests.repository.web import Web, web_serve


@pytest.fixture
def web(world: World) -> Iterator[Web]:
    with web_serve(world.mirror) as web:
        world.address = web.address
        yield web


def _copied(world: World, folder: Path, *, finished: bool = True) -> Path:
    """Have a client keep a copy of everything that it fetches."""
    state, copy = folder / "fetching", folder / "copy"
    trust(state, world.first_root)
    channel = open_channel(world.address, state, CHANNEL, Tier.STABLE, keep=copy)
    assert isinstance(channel, Channel), channel
    assert isinstance(channel.fetch(HOTPATCH), Fetched)
    if finished:
        channel.kept()
    return copy


def test_another_client_reads_the_copy_as_it_reads_the_repository(world: World, web: Web, tmp_path: Path) -> None:
    copy = _copied(world, tmp_path)
    fetched = world.client().channel(copy).fetch(HOTPATCH)
    assert isinstance(fetched, Fetched), fetched
    assert fetched.files[0][0].read_bytes() == bundle()


def test_a_copy_that_was_not_finished_leads_to_nothing_new(world: World, web: Web, tmp_path: Path) -> None:
    copy = _copied(world, tmp_path)
    reader = world.client()
    assert reader.channel(copy).index.find(HOTPATCH) is not None
    world.sign(world.publisher().withdraw(CHANNEL, (HOTPATCH,), "wrong"), "stable1", "stable2")
    channel = open_channel(world.address, tmp_path / "fetching", CHANNEL, Tier.STABLE, keep=copy)
    assert isinstance(channel, Channel)
    entry = reader.channel(copy).index.find(HOTPATCH)
    assert entry is not None
    assert entry.withdrawn is None
    channel.kept()
    entry = reader.channel(copy).index.find(HOTPATCH)
    assert entry is not None
    assert entry.withdrawn == "wrong"


def test_what_is_changed_in_the_copy_is_refused(world: World, web: Web, tmp_path: Path) -> None:
    copy = _copied(world, tmp_path)
    (file,) = copy.rglob("*.hotmend")
    file.write_bytes(bytes(file.stat().st_size))
    answer = world.client().channel(copy).fetch(HOTPATCH)
    assert isinstance(answer, Reason)
    assert answer.code == "repository-files-do-not-fit"


def test_a_line_that_breaks_leaves_no_half_file(world: World, web: Web, tmp_path: Path) -> None:
    opened: Channel | Reason | None = None
    for cut in itertools.count():
        web.cut, web.requests = cut, 0
        folder = tmp_path / str(cut)
        trust(folder / "fetching", world.first_root)
        try:
            opened = open_channel(world.address, folder / "fetching", CHANNEL, Tier.STABLE, keep=folder / "copy")
        except HotmendError:
            left = list((folder / "copy").rglob("*.json"))
            assert not (folder / "copy/metadata/timestamp.json").exists()
            assert all(path.read_bytes().rstrip().endswith(b"}") for path in left)
            continue
        break
    assert isinstance(opened, Channel)
    assert cut >= 4


def test_the_agents_part_with_a_network(world: World, web: Web, tmp_path: Path) -> None:
    """No package of the sample is installed here: the list of releases is copied, and no file of theirs."""
    places = Places(tmp_path)
    channel = ChannelSource(world.address, CHANNEL)
    with pytest.raises(UsageError, match="no root is trusted yet"):
        copy_channel(channel, places)
    trust_root(places, world.first_root)
    assert copy_channel(channel, places) == ()
    assert copy_channel(channel, places) == ()
    assert copy_of(channel.address, places) == str(places.mirror / "copy")
    assert copy_of("/srv/mirror", places) == "/srv/mirror"
    index = world.client().channel(copy_of(channel.address, places)).index
    assert [entry.id for entry in index.releases] == [BASELINE, HOTPATCH]
    assert not list(places.mirror.rglob("*.hotmend"))
    assert not [path for path in places.mirror.rglob("*") if path.name.endswith(".new")]
