"""Bundles that travel compressed against old images: whatever is wrong with that leads to the whole bundle."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import zstandard
from tuf.api.metadata import Targets

from hotmend.model.errors import FetchError, InputError
from hotmend.package.bundle import decompress, load
from hotmend.package.delta import Content, content_of, delta_encode
from hotmend.repository import deltas, fetchers, layout, metadata, requests
from hotmend.repository.bundles import Arrival, Came
from hotmend.repository.client import Fetched
from hotmend.repository.deltas import Delta, delta_make, images_of
from hotmend.repository.layout import Tier
from hotmend.repository.releases import HotpatchRelease, ReleaseFile, ReleaseImage
from hotmend.repository.state import state_load
from hotmend.repository.store import Store
from tests.repository.kit import (
    CHANNEL,
    HOTPATCH,
    Client,
    World,
    bundle,
    delta,
    forge,
    hotpatch,
    old_file,
    old_image,
    target_file,
)
from tests.repository.web import Web, web_serve

STABLE = f"stable.{CHANNEL}"
NAME = f"{HOTPATCH}.0.hotmend"
BUNDLE, DELTA = (f"{CHANNEL}/stable/{NAME}{suffix}" for suffix in ("", ".delta"))


@pytest.fixture(autouse=True)
def web(world: World) -> Iterator[Web]:
    with web_serve(world.mirror) as web:
        world.address = web.address
        yield web


def _fetch(client: Client) -> tuple[Fetched, Arrival]:
    channel = client.channel()
    fetched = channel.fetch(HOTPATCH)
    assert isinstance(fetched, Fetched), fetched
    (arrival,) = channel.arrivals
    return fetched, arrival


def _whole(client: Client, why: str, fetched_bytes: int = len(bundle())) -> None:
    """Everything arrives all the same, by the whole bundle, and it is told why."""
    fetched, arrival = _fetch(client)
    assert fetched.files[0][0].read_bytes() == bundle()
    assert arrival.how is Came.WHOLE
    assert why in arrival.why
    assert arrival.bytes == fetched_bytes


def _machine(world: World) -> Client:
    return world.client(old=old_image)


def test_a_machine_with_the_old_image_fetches_the_delta(world: World) -> None:
    plain, _ = _fetch(world.client())
    target_file(world, BUNDLE).unlink()
    client = _machine(world)
    fetched, arrival = _fetch(client)
    assert arrival == Arrival(NAME, Came.DELTA, len(delta().data))
    assert arrival.bytes < len(bundle())
    assert fetched.release == plain.release
    assert [hotpatches for _, hotpatches in fetched.files] == [hotpatches for _, hotpatches in plain.files]
    assert load(fetched.files[0][0]) == fetched.files[0][1]
    # The next time nothing is fetched, and the old image is not needed any more.
    client.old = lambda _: None
    target_file(world, DELTA).unlink()
    again, arrival = _fetch(client)
    assert arrival == Arrival(NAME, Came.HERE, 0)
    assert again == fetched


def test_a_machine_that_has_no_old_images_asks_for_no_delta(world: World) -> None:
    target_file(world, DELTA).unlink()
    _whole(world.client(), "")


def test_a_repository_without_deltas_is_read_as_before(world: World) -> None:
    forge(world, STABLE, lambda signed: signed.targets.pop(DELTA), "stable1", "stable2")
    _whole(_machine(world), "")


def test_what_was_made_here_and_changed_on_the_disk_is_not_believed(world: World) -> None:
    client = _machine(world)
    fetched, _ = _fetch(client)
    place = fetched.files[0][0]
    for data in (place.read_bytes()[:-1], zstandard.compress(b"x"), b""):
        place.write_bytes(data)
        assert _fetch(client)[1] == Arrival(NAME, Came.DELTA, 0)


def _missing(world: World, web: Web) -> None:
    target_file(world, DELTA).unlink()


def _garbage(world: World, web: Web) -> None:
    target_file(world, DELTA).write_bytes(bytes(len(delta().data)))


def _short(world: World, web: Web) -> None:
    target_file(world, DELTA).write_bytes(delta().data[:-1])


def _empty(world: World, web: Web) -> None:
    target_file(world, DELTA).write_bytes(b"")


def _another(world: World, web: Web) -> None:
    """A mirror answers with another delta that is signed, for another bundle."""
    target_file(world, DELTA).write_bytes(delta_encode(b"another content", [old_file()]))


def _bundle_itself(world: World, web: Web) -> None:
    target_file(world, DELTA).write_bytes(bundle())


def _endless(world: World, web: Web) -> None:
    web.endless = ".delta"


@pytest.mark.parametrize(
    ("attack", "why"),
    [
        (_missing, "404"),
        (_garbage, "LengthOrHash|does not match|sha256|hash"),
        (_short, "."),
        (_empty, "."),
        (_another, "."),
        (_bundle_itself, "."),
        (_endless, "more than is allowed"),
    ],
)
def test_what_a_mirror_does_to_a_delta_leads_to_the_whole_bundle(
    world: World, web: Web, attack: Callable[[World, Web], None], why: str
) -> None:
    attack(world, web)
    fetched, arrival = _fetch(_machine(world))
    assert fetched.files[0][0].read_bytes() == bundle()
    assert arrival.how is Came.WHOLE
    assert arrival.why
    assert why == "." or any(word in arrival.why for word in why.split("|")), arrival.why
    assert web.sent < 64 << 20


def test_a_delta_that_drips_ends(world: World, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    client = _machine(world)
    channel = client.channel()
    monkeypatch.setattr(fetchers, "FILE_SECONDS_MAX", 1.0)  # which the bundle itself has to keep to
    web.drip = ".delta"
    assert isinstance(channel.fetch(HOTPATCH), Fetched)
    assert "not finished after" in channel.arrivals[0].why


def test_a_network_that_is_cut_leaves_nothing_half_believed(world: World, web: Web) -> None:
    """The line dies in the n-th answer, for every n; a second try completes it, by the delta or by the bundle."""
    ways = set()
    for cut in range(100):
        client = _machine(world)
        web.requests, web.cut = 0, cut
        try:
            ways.add(_fetch(client)[1].how)
        except FetchError:
            web.cut = None
            ways.add(_fetch(client)[1].how)
            continue
        assert cut > 5
        assert ways == {Came.DELTA}
        return
    raise AssertionError("never done")


@pytest.mark.parametrize(
    ("image", "why", "in_vain"),
    [
        (None, "the old usr/sbin/server is not to be had", 0),
        (b"", "other images", len(delta().data)),
        (old_file()[:-1], "", len(delta().data)),
        (old_file()[::-1], "other images", len(delta().data)),
    ],
)
def test_another_old_image_leads_to_the_whole_bundle(world: World, image: bytes | None, why: str, in_vain: int) -> None:
    """An image of the same build-id can have other bytes: somebody signed or stripped it."""
    client = world.client(old=lambda _: image)
    _, arrival = _fetch(client)
    if arrival.how is Came.WHOLE:
        assert why in arrival.why
        assert arrival.bytes == len(bundle()) + in_vain
    else:
        assert image == old_file()[:-1]  # the last byte is not needed


def _signed(world: World, data: bytes, custom: Any = None) -> None:
    """Have the stable keys sign a delta: whoever has these keys can sign other bundles as well."""
    target = metadata.target_of(DELTA, data)
    if custom is not None:
        target.unrecognized_fields["custom"] = custom

    def put(signed: Any) -> None:
        signed.targets[DELTA] = target

    forge(world, STABLE, put, "stable1", "stable2")
    place = world.mirror / "targets" / CHANNEL / "stable" / f"{target.hashes['sha256']}.{NAME}.delta"
    place.write_bytes(data)


def _packed(content: Content, frame: bytes) -> bytes:
    head = msgspec.json.encode(content)
    return struct.pack("<II", 0x184D2A5D, len(head)) + head + frame


def test_a_signed_bomb_is_not_unpacked(world: World) -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(256 << 10))
    data = _packed(content_of(decompress(bundle())), bomb)
    assert len(data) < len(bundle())
    _signed(world, data)
    _whole(_machine(world), "claim 262144 bytes", len(bundle()) + len(data))


def test_a_signed_delta_of_other_hotpatches_is_not_believed(world: World) -> None:
    data = delta_encode(old_file()[5000:], [old_file()])
    _signed(world, data)
    _whole(_machine(world), "", len(bundle()) + len(data))


def test_a_delta_as_long_as_its_bundle_is_not_asked_for(world: World) -> None:
    _signed(world, delta().data + bytes(len(bundle())))
    _whole(_machine(world), "")


@pytest.mark.parametrize(
    "custom", [{"images": [1]}, {"images": []}, {"images": [0, 0]}, {"images": [-1]}, {"images": "0"}, {}, {"x": 1}]
)
def test_metadata_that_mean_no_image_name_no_delta(world: World, custom: Any) -> None:
    _signed(world, delta().data, custom)
    _whole(_machine(world), "")


def test_metadata_may_name_the_images(world: World) -> None:
    _signed(world, delta().data, {"images": [0]})
    assert _fetch(_machine(world))[1].how is Came.DELTA


def test_a_delta_beside_another_bundle_than_the_release_names_is_of_no_use(world: World) -> None:
    def swap(signed: Any) -> None:
        signed.targets[BUNDLE] = metadata.target_of(BUNDLE, b"another")

    forge(world, STABLE, swap, "stable1", "stable2")
    answer = _machine(world).channel().fetch(HOTPATCH)
    assert getattr(answer, "code", "") == "release-does-not-fit"


def test_it_goes_with_its_bundle(world: World) -> None:
    """Promoted, shared with a later release, withdrawn and deleted together."""
    for tier in Tier:
        path = layout.delta_path(CHANNEL, tier, NAME)
        assert target_file(world, path).read_bytes() == delta().data
    assert world.sign(world.publisher().withdraw(CHANNEL, (HOTPATCH,), "it loops"), "stable1", "stable2") is None
    state = state_load(Store(world.repository))
    assert state is not None
    for role in state.delegated.values():
        assert not [path for path in role.signed.targets if ".hotmend" in path]


def test_a_release_that_shares_a_bundle_shares_its_delta(world: World) -> None:
    first = hotpatch(world.now)
    name = first.files[0].name
    second = msgspec.structs.replace(hotpatch(world.now, "second", supersedes=(HOTPATCH,)), files=first.files)
    world.publisher().add(second, {name: bundle()})
    world.publisher().withdraw(CHANNEL, (HOTPATCH,), "superseded")
    world.publisher().discard(world.publisher().pending()[0])
    channel = world.client(Tier.CANARY, old_image).channel()
    assert isinstance(channel.fetch("second"), Fetched)
    assert channel.arrivals[0].how is Came.DELTA
    world.promote("second")
    channel = world.client(Tier.STABLE, old_image).channel()
    assert isinstance(channel.fetch("second"), Fetched)
    assert channel.arrivals[0].how is Came.DELTA


def _proposed(world: World, deltas_: dict[str, Delta]) -> requests.Request:
    """Return the request to promote a release with these deltas; what a build host that was taken over asks for."""
    release = hotpatch(world.now, "second", supersedes=(HOTPATCH,))
    name = release.files[0].name
    world.publisher().add(release, {name: bundle()}, {name: deltas_.get(name, delta())})
    pending = world.publisher().promote(CHANNEL, ("second",))
    return requests.request_decode(pending.path.read_bytes())


def test_signers_see_that_a_delta_becomes_its_bundle(world: World) -> None:
    request = _proposed(world, {})
    assert f"{CHANNEL}/stable/second.0.hotmend.delta" in request.files
    requests.review(request)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (delta_encode(b"something else", [old_file()]), "would become something else"),
        (b"no delta at all", "does not begin as one"),
    ],
)
def test_signers_refuse_a_delta_of_something_else(world: World, data: bytes, why: str) -> None:
    with pytest.raises(InputError, match=why):
        _proposed(world, {"second.0.hotmend": Delta(data)})


def test_signers_refuse_a_delta_that_means_no_image(world: World) -> None:
    with pytest.raises(InputError, match="no images of the release"):
        _proposed(world, {"second.0.hotmend": Delta(delta().data, (3,))})


def _edited(request: requests.Request, edit: Callable[[Any], None], files: dict[str, bytes]) -> requests.Request:
    role = metadata.parse(request.proposed[STABLE], Targets, STABLE)
    edit(role.signed.targets)
    return requests.Request({STABLE: role.to_bytes()}, request.roots, request.current, {**request.files, **files})


def test_signers_refuse_a_delta_that_belongs_to_nothing(world: World) -> None:
    request = _proposed(world, {})
    for path in (f"{CHANNEL}/stable/stray.0.hotmend.delta", DELTA):
        target = metadata.target_of(path, delta().data + b"\0")

        def put(targets: Any, path: str = path, target: Any = target) -> None:
            targets[path] = target

        with pytest.raises(InputError, match="belongs to no bundle that came along"):
            requests.review(_edited(request, put, {path: delta().data + b"\0"}))


def test_signers_refuse_more_words_on_a_bundle(world: World) -> None:
    request = _proposed(world, {})
    path = f"{CHANNEL}/stable/second.0.hotmend"

    def put(targets: Any) -> None:
        targets[path].unrecognized_fields["custom"] = {"images": [0]}

    with pytest.raises(InputError, match="say more of it than they should"):
        requests.review(_edited(request, put, {}))


def test_signers_refuse_to_take_a_delta_away_alone(world: World) -> None:
    request = _proposed(world, {})
    with pytest.raises(InputError, match="would disappear without being withdrawn"):
        requests.review(_edited(request, lambda targets: targets.pop(DELTA), {}))


# --- making them ----------------------------------------------------------------------------------------------


def _noise(name: str, size: int) -> bytes:
    return hashlib.shake_256(name.encode()).digest(size)


def _bundle_of(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=19).compress(content)


def test_a_delta_is_made_where_it_saves_enough() -> None:
    old = _noise("old", 50_000)
    made = delta_make(_bundle_of(old[:20_000]), [old])
    assert made is not None
    assert made.images == ()
    assert delta_make(_bundle_of(old[:20_000]), [old]) == made
    assert delta_make(_bundle_of(old[: deltas.SAVED_BYTES_MIN]), [old]) is None
    assert delta_make(_bundle_of(_noise("new", 40_000) + old[:3000]), [old]) is None
    assert delta_make(_bundle_of(_noise("new", 20_000)), [old]) is None
    assert delta_make(_bundle_of(old[:20_000]), [None]) is None


def test_images_that_bring_little_are_left_out() -> None:
    """Not every machine has every library of a package; what is left out is not asked for."""
    old = [_noise(name, 30_000) for name in ("main", "side", "twin")]
    content = old[0][:20_000] + old[1][:10_000] + old[2][:100] + _noise("new", 15_000)
    made = delta_make(_bundle_of(content), old)
    assert made is not None
    assert made.images == (0, 1)
    assert delta_make(_bundle_of(content), [old[0], None, old[2]]) is not None


def test_images_that_are_too_long_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deltas, "PREFIX_BYTES_MAX", 40_000)
    made = delta_make(_bundle_of(_noise("small", 20_000)), [_noise("large", 39_000), _noise("small", 20_000)])
    assert made is not None
    assert made.images == (1,)


def test_images_of_a_target(world: World) -> None:
    release = hotpatch(world.now)
    assert isinstance(release, HotpatchRelease)
    image: ReleaseImage = release.files[0].images[0]
    file: ReleaseFile = msgspec.structs.replace(release.files[0], images=(image, image, image))
    assert images_of(Delta(b"x").target("a"), file) == (0, 1, 2)
    assert images_of(Delta(b"x", (0, 2)).target("a"), file) == (0, 2)
    with pytest.raises(InputError):
        images_of(Delta(b"x", (2, 0)).target("a"), file)
