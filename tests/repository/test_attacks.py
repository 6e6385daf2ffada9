"""Every attack that TUF's specification names, played with a real repository on a web server and the real client.

https://theupdateframework.github.io/specification/latest/, section 1.5.2.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hotmend.model.errors import FetchError
from hotmend.model.verdict import Reason
from hotmend.repository import fetchers, metadata
from hotmend.repository.client import Channel, Fetched, open_channel
from hotmend.repository.documents import release_encode
from hotmend.repository.layout import TIMESTAMP_BYTES_MAX, Tier
from hotmend.repository.releases import HotpatchRelease
from tests.repository.kit import BASELINE, CHANNEL, HOTPATCH, World, bundle, forge, hotpatch, target_file
from tests.repository.web import Web, web_serve

STABLE = f"stable.{CHANNEL}"
BUNDLE = f"{CHANNEL}/stable/{HOTPATCH}.0.hotmend"


@pytest.fixture(autouse=True)
def web(world: World) -> Iterator[Web]:
    """The mirror that all clients of these tests ask."""
    with web_serve(world.mirror) as web:
        world.address = web.address
        yield web


def _refusal(answer: object) -> str:
    assert isinstance(answer, Reason), answer
    return answer.code


def _fetched(channel: Channel) -> Fetched:
    fetched = channel.fetch(HOTPATCH)
    assert isinstance(fetched, Fetched), fetched
    return fetched


def test_without_an_attack_everything_arrives(world: World) -> None:
    fetched = _fetched(world.client().channel())
    assert isinstance(fetched.release, HotpatchRelease)
    assert fetched.files[0][0].read_bytes() == bundle()
    assert {h.old_build_id for _, hotpatches in fetched.files for h in hotpatches} == fetched.release.applies_to


def test_arbitrary_software_is_refused(world: World) -> None:
    target_file(world, BUNDLE).write_bytes(b"x" * len(bundle()))
    assert _refusal(world.client().channel().fetch(HOTPATCH)) == "repository-files-do-not-fit"


def test_arbitrary_metadata_is_refused(world: World) -> None:
    forge(world, STABLE, lambda _: None, "canary", "online")
    assert world.client().code() == "repository-not-signed"


def test_a_rollback_is_refused(world: World, web: Web, tmp_path: Path) -> None:
    old = shutil.copytree(world.mirror, tmp_path / "old")
    client = world.client()
    world.publisher().refresh()
    client.channel()
    web.folder = old
    assert client.code() == "repository-rolled-back"
    web.folder = world.mirror
    client.channel()


def test_a_rollback_to_an_older_release_list_is_refused_even_with_a_new_timestamp(world: World) -> None:
    """Whoever has the online key alone names the snapshot of before with a higher timestamp."""
    before = sorted((world.mirror / "metadata").glob("*.snapshot.json"), key=lambda p: int(p.name.split(".")[0]))[0]
    client = world.client()
    client.channel()
    stamp = world.mirror / "metadata" / "timestamp.json"
    version = metadata.version_of(stamp.read_bytes())
    forged = metadata.timestamp_of(version + 1, before.read_bytes(), world.now + timedelta(days=7))
    stamp.write_bytes(world.signed(forged, "online"))
    assert client.code() == "repository-rolled-back"


def test_an_indefinite_freeze_ends_when_the_timestamp_expires(world: World) -> None:
    world.later(days=-30)
    forge(world, "timestamp", lambda signed: setattr(signed, "expires", world.now + timedelta(days=7)), "online")
    assert world.client().code() == "repository-expired"


def test_a_clock_that_is_set_back_does_not_prolong_a_freeze(world: World) -> None:
    client = world.client()
    client.channel()
    earlier = world.now - timedelta(days=2)
    assert _refusal(open_channel(world.address, client.folder, CHANNEL, Tier.STABLE, earlier)) == "clock-set-back"


def test_a_fast_forward_is_over_once_the_keys_are_replaced(world: World) -> None:
    """A stolen online key numbers the timestamp so high that nothing after it is taken any more."""
    client = world.client()
    honest = (world.mirror / "metadata" / "timestamp.json").read_bytes()
    forge(world, "timestamp", lambda signed: setattr(signed, "version", 2**31), "online")
    client.channel()
    (world.mirror / "metadata" / "timestamp.json").write_bytes(honest)
    assert client.code() == "repository-rolled-back"

    stolen = world.public("online", threshold=1).keys[0].keyid
    for role in ("timestamp", "snapshot"):
        pending = world.publisher().rekey(role, (), (stolen,), None, (str(world.key("canary")),))
        assert world.sign(pending, "root1", "root3") is None
    assert client.channel().index.find(HOTPATCH)


def test_mix_and_match_is_refused(world: World) -> None:
    """A mirror serves an older list of releases under the name of the newer."""
    folder = world.mirror / "metadata"
    shutil.copy(folder / f"1.{STABLE}.json", folder / f"2.{STABLE}.json")
    assert world.client().code() == "repository-files-do-not-fit"


@pytest.mark.parametrize("name", ["timestamp.json", ".snapshot.json", f".{STABLE}.json", ".index.json", ".hotmend"])
def test_endless_data_are_refused(world: World, web: Web, name: str) -> None:
    web.endless = name
    opened = world.client().open()
    answer = opened.fetch(HOTPATCH) if isinstance(opened, Channel) else opened
    assert _refusal(answer) == "repository-too-long"
    # Sockets hold a few MiB on the way; the limit of the file itself is far below.
    assert web.sent < 64 << 20


@pytest.mark.parametrize("name", ["timestamp.json", f".{STABLE}.json", ".hotmend"])
def test_slow_retrieval_ends(world: World, web: Web, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Byte by byte, so that no read ever times out: the limit for the file as a whole has to end it."""
    client = world.client()
    web.drip = name
    with monkeypatch.context() as hurry:
        hurry.setattr(fetchers, "FILE_SECONDS_MAX", 0.2)
        with pytest.raises(FetchError, match=r"not finished after 0\.2 s"):
            client.channel().fetch(HOTPATCH)
    web.drip = " "
    _fetched(client.channel())


def test_a_silent_server_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetchers, "SOCKET_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(FetchError):
        world.client().open(f"http://127.0.0.1:{silent.getsockname()[1]}")


def test_a_network_that_is_cut_leaves_nothing_half_believed(world: World, web: Web) -> None:
    """The line dies in the n-th answer, for every n; what was known before stays, and a second try completes it."""
    for cut in range(100):
        client = world.client()
        web.requests, web.cut = 0, cut
        try:
            _fetched(client.channel())
        except FetchError:
            web.cut = None
            _fetched(client.channel())
            continue
        assert cut > 5
        return
    raise AssertionError("never done")


def test_extraneous_dependencies_cannot_be_added(world: World) -> None:
    """The canary key signs files of the stable tier, and a release that the stable tier does not have."""
    extra = hotpatch(world.now, "extra")
    world.publisher().add(extra, {extra.files[0].name: bundle()})
    document = release_encode(extra)
    path = f"{CHANNEL}/stable/extra.release.json"

    def sign_more(signed: Any) -> None:
        signed.targets[path] = metadata.target_of(path, document)

    forge(world, f"canary.{CHANNEL}", sign_more, "canary")
    channel = world.client().channel()
    assert _refusal(channel.fetch("extra")) == "release-unknown"
    assert channel.index.find("extra") is None
    assert channel._updater.get_targetinfo(path) is None
    assert world.client(Tier.CANARY).channel().index.find("extra")


def test_a_stable_machine_never_asks_the_canary_role(world: World) -> None:
    for file in (world.mirror / "metadata").glob("*.canary.*"):
        file.unlink()
    shutil.rmtree(world.mirror / "targets" / CHANNEL / "canary")
    _fetched(world.client().channel())


def test_wrong_software_is_refused(world: World) -> None:
    """A mirror answers with a file that is signed, but for something else."""
    document = target_file(world, f"{CHANNEL}/stable/{BASELINE}.release.json")
    target_file(world, f"{CHANNEL}/stable/{HOTPATCH}.release.json").write_bytes(document.read_bytes())
    assert _refusal(world.client().channel().fetch(HOTPATCH)) == "repository-files-do-not-fit"


def test_a_document_of_another_release_is_refused_even_when_signed(world: World) -> None:
    path = f"{CHANNEL}/stable/{HOTPATCH}.release.json"
    other = target_file(world, f"{CHANNEL}/stable/{BASELINE}.release.json").read_bytes()
    target = metadata.target_of(path, other)

    def swap(signed: Any) -> None:
        signed.targets[path] = target

    forge(world, STABLE, swap, "stable1", "stable2")
    place = world.mirror / "targets" / CHANNEL / "stable" / f"{target.hashes['sha256']}.{HOTPATCH}.release.json"
    place.write_bytes(other)
    assert _refusal(world.client().channel().fetch(HOTPATCH)) == "release-does-not-fit"


@pytest.mark.parametrize("keys", [("stable1",), ("stable1", "canary"), ("stable1", "online", "root1", "targets1")])
def test_keys_below_the_threshold_sign_nothing(world: World, keys: tuple[str, ...]) -> None:
    forge(world, STABLE, lambda signed: signed.targets.clear(), *keys)
    assert world.client().code() == "repository-not-signed"


def test_a_root_below_the_threshold_is_refused(world: World) -> None:
    forge(world, "root", lambda signed: setattr(signed.roles["root"], "threshold", 1), "root1")
    assert world.client().code() == "repository-not-signed"


def test_a_root_that_only_new_keys_sign_is_refused(world: World) -> None:
    def take_over(signed: Any) -> None:
        key = world.public("online", threshold=1).keys[0]
        signed.keys[key.keyid] = key
        signed.roles["root"].keyids, signed.roles["root"].threshold = [key.keyid], 1

    forge(world, "root", take_over, "online")
    assert world.client().code() == "repository-not-signed"


def test_a_revoked_key_signs_nothing_any_more(world: World) -> None:
    revoked = world.public("canary", threshold=1).keys[0].keyid
    role = f"canary.{CHANNEL}"
    pending = world.publisher().rekey(role, (), (revoked,), None, (str(world.key("root3")),))
    assert world.sign(pending, "targets1", "targets2") is None
    world.client(Tier.CANARY).channel()
    forge(world, role, lambda _: None, "canary")
    assert world.client(Tier.CANARY).code() == "repository-not-signed"


def test_a_malicious_mirror_with_a_repository_of_its_own_is_refused(world: World, web: Web, tmp_path: Path) -> None:
    (tmp_path / "evil").mkdir()
    evil = World(tmp_path / "evil").make_keys().found().fill().promote()
    web.folder = evil.mirror
    assert world.client().code() == "repository-not-signed"


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\xff", b'{"signatures":[],"signed":{"_type":"x"}}'])
def test_a_malicious_mirror_with_damaged_metadata_is_refused(world: World, content: bytes) -> None:
    (world.mirror / "metadata" / "timestamp.json").write_bytes(content[:TIMESTAMP_BYTES_MAX])
    assert world.client().code() == "repository-damaged"


def test_a_malicious_mirror_that_leaves_files_out_is_no_source(world: World) -> None:
    (world.mirror / "metadata" / "timestamp.json").unlink()
    with pytest.raises(FetchError):
        world.client().open()


def test_what_is_withdrawn_is_not_fetched(world: World) -> None:
    assert world.sign(world.publisher().withdraw(CHANNEL, (HOTPATCH,), "it loops"), "stable1", "stable2") is None
    for tier in Tier:
        channel = world.client(tier).channel()
        assert _refusal(channel.fetch(HOTPATCH)) == "release-withdrawn"
        entry = channel.index.find(HOTPATCH)
        assert entry is not None
        assert entry.withdrawn == "it loops"
