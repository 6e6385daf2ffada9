"""Killed, or out of space, at every single call that writes: what a client sees is the old state or the new one."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from hotmend.model.errors import HotmendError
from hotmend.model.verdict import Reason
from hotmend.repository.bundles import Came
from hotmend.repository.client import Fetched
from hotmend.repository.collect import garbage_collect
from hotmend.repository.layout import Tier
from hotmend.repository.store import Disk, Store
from tests.repository.kit import CHANNEL, HOTPATCH, World, bundle, delta, hotpatch, old_image

CALLS_MAX = 400


class FailingDisk(Disk):
    """Fails in the n-th call; a write has written half by then. With `kill` the process is gone instead."""

    def __init__(self, nth: int, *, kill: bool) -> None:
        self.left = nth
        self._kill = kill

    def create(self, path: Path) -> int:
        self._count()
        return super().create(path)

    def write(self, descriptor: int, data: memoryview) -> int:
        if self.left == 1:
            os.write(descriptor, data[: len(data) // 2])
        self._count()
        return super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self._count()
        super().sync(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        self._count()
        super().rename(old, new)

    def unlink(self, path: Path) -> None:
        self._count()
        super().unlink(path)

    def mkdir(self, path: Path) -> None:
        self._count()
        super().mkdir(path)

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            if self._kill:
                os._exit(9)
            raise OSError(errno.ENOSPC, "No space left on device")


def _add(world: World, disk: Disk | None) -> None:
    release = hotpatch(world.now, "second", supersedes=(HOTPATCH,))
    if disk is None and world.client(Tier.CANARY).channel().index.find("second"):
        return  # the one that was killed had got that far
    name = release.files[0].name
    world.publisher(disk).add(release, {name: bundle()}, {name: delta()})


def _accept(*signers: str) -> Callable[[World, Disk | None], None]:
    """Return a deed that accepts the one request that waits."""

    def deed(world: World, disk: Disk | None) -> None:
        pending = world.publisher().pending()
        if pending:
            assert world.publisher(disk).accept(world.signatures(pending[0], *signers)) is None

    return deed


def _fetches(world: World, tier: Tier, identity: str) -> None:
    """A machine that has the old image is offered a delta that is there, or none."""
    channel = world.client(tier, old_image).channel()
    entry = channel.index.find(identity)
    if entry is not None and entry.withdrawn is None:
        assert isinstance(channel.fetch(identity), Fetched)
        assert [arrival.how for arrival in channel.arrivals] == [Came.DELTA]


def _ask_promotion(world: World) -> None:
    _add(world, None)
    world.publisher().promote(CHANNEL, ("second",))


def _refresh(world: World, disk: Disk | None) -> None:
    world.publisher(disk).refresh()


def _ask_withdrawal(world: World) -> None:
    world.publisher().withdraw(CHANNEL, (HOTPATCH,), "it loops")


def _ask_online_keys(world: World) -> None:
    world.publisher().rekey("timestamp", world.public("root3", threshold=1).keys, (), 1, ())
    old = world.public("online", threshold=1).keys[0].keyid
    for pending in world.publisher().pending():
        pending.path.unlink()
    world.publisher().rekey("timestamp", (), (old,), 1, (str(world.key("root3")),))


def _ask_targets_keys(world: World) -> None:
    old = world.public("targets1", threshold=1).keys[0].keyid
    world.publisher().rekey("targets", world.public("root3", threshold=1).keys, (old,), 2, ())


def _withdraw_signed(world: World) -> None:
    """A bundle that nobody names any more, and old metadata; the baseline still stands."""
    release = hotpatch(world.now, "second", supersedes=(HOTPATCH,))
    name = release.files[0].name
    world.publisher().add(release, {name: bundle()}, {name: delta()})
    world.publisher().withdraw(CHANNEL, ("second",), "it loops")


def _collect(world: World, disk: Disk | None) -> None:
    garbage_collect(Store(world.repository, disk), timedelta(0), world.now)


_DEEDS: dict[str, tuple[Callable[[World], None] | None, Callable[[World, Disk | None], None]]] = {
    "add": (None, _add),
    "refresh": (None, _refresh),
    "accept-promotion": (_ask_promotion, _accept("stable1", "stable2")),
    "accept-withdrawal": (_ask_withdrawal, _accept("stable1", "stable2")),
    "accept-online-keys": (_ask_online_keys, _accept("root1", "root2")),
    "collect": (_withdraw_signed, _collect),
    "accept-targets-keys": (_ask_targets_keys, _accept("root1", "root2", "targets1", "targets2", "root3")),
}


def _run(world: World, deed: Callable[[World, Disk | None], None], nth: int, *, kill: bool) -> bool:
    """Return whether the deed got to its n-th call."""
    if not kill:
        disk = FailingDisk(nth, kill=False)
        with contextlib.suppress(HotmendError):
            deed(world, disk)
        return disk.left <= 0
    child = os.fork()
    if child == 0:
        try:
            deed(world, FailingDisk(nth, kill=True))
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "full"])
@pytest.mark.parametrize("name", _DEEDS)
def test_nothing_is_half_published(original: World, tmp_path: Path, name: str, kill: bool) -> None:
    ask, deed = _DEEDS[name]
    prepared = original.copy(tmp_path)
    if ask is not None:
        ask(prepared)
    # A full disk takes the way of a kill and then some cleaning: every third call shows that part.
    for nth in range(1, CALLS_MAX, 1 if kill else 3):
        world = prepared.copy(tmp_path / str(nth))
        reached = _run(world, deed, nth, kill=kill)
        client = world.client()
        assert client.channel().index.find(HOTPATCH), nth
        for tier in Tier:
            _fetches(world, tier, "second")
        deed(world, None)
        client.channel()
        assert not [p for p in world.repository.rglob("*.new") if p.parent.name != "waiting"], nth
        assert not world.publisher().pending()
        if not reached:
            assert nth > 3
            return
    raise AssertionError("never done")


def test_keys_of_an_online_role_that_are_lost_leave_a_gap_that_a_second_try_closes(
    original: World, tmp_path: Path
) -> None:
    """The old key cannot sign once more, so root and timestamp cannot both be valid at once: nothing is believed."""
    prepared = original.copy(tmp_path)
    _ask_online_keys(prepared)
    settings = prepared.repository / "settings.json"
    settings.write_text(settings.read_text().replace(str(prepared.key("online")), str(tmp_path / "lost"), 2))
    # The snapshot keeps the key; only the timestamp's is lost.
    text = settings.read_text().replace(
        '"snapshot": [\n      "' + str(tmp_path / "lost"), '"snapshot": [\n      "' + str(prepared.key("online"))
    )
    settings.write_text(text)
    codes = set()
    for nth in range(1, CALLS_MAX):
        world = prepared.copy(tmp_path / str(nth))
        reached = _run(world, _accept("root1", "root2"), nth, kill=True)
        answer = world.client().open()
        codes.add(getattr(answer, "code", "good"))
        _accept("root1", "root2")(world, None)
        world.client().channel()
        if not reached:
            break
    assert codes == {"good", "repository-not-signed"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "hotmend-test", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_disk_that_is_really_full_publishes_nothing(original: World, small_disk: Path) -> None:
    """As `nothing_is_half_published`, with the kernel refusing: page after page is left free until it is enough."""
    for pages in range(200):
        world = original.copy(small_disk)
        before = world.client(Tier.CANARY).channel().index
        ballast = small_disk / "ballast"
        usage = shutil.disk_usage(small_disk)
        ballast.write_bytes(bytes(usage.free - pages * 4096))
        failed = ""
        try:
            _add(world, Disk())
        except HotmendError as error:
            failed = str(error)
        ballast.unlink()
        index = world.client(Tier.CANARY).channel().index
        if not failed:
            assert index.find("second")
            assert pages > 3
            return
        assert failed.endswith("No space left on device")
        assert index == before
        _add(world, Disk())
        assert world.client(Tier.CANARY).channel().index.find("second")
        shutil.rmtree(world.repository)
        for client in small_disk.glob("client*"):
            shutil.rmtree(client)
    raise AssertionError("never enough")


def test_garbage_goes_after_its_time_of_grace_and_nothing_else_does(original: World, tmp_path: Path) -> None:
    world = original.copy(tmp_path)
    store = Store(world.repository)
    first = set(world.mirror.rglob("*.json"))
    _withdraw_signed(world)
    files = list((world.mirror / "targets").rglob("*second.0.hotmend*"))
    assert len(files) == 2  # the bundle, and its delta
    assert garbage_collect(store, timedelta(days=2), world.now) == ()
    world.later(days=1)
    assert garbage_collect(store, timedelta(days=2), world.now) == ()
    world.later(days=1)
    gone = garbage_collect(store, timedelta(days=2), world.now)
    assert {str(file.relative_to(world.repository)) for file in files} <= set(gone)
    assert {path for path in first if path.name.endswith(".root.json")} <= set(world.mirror.rglob("*.json"))
    for tier in Tier:
        client = world.client(tier)
        assert client.channel().index.find(HOTPATCH)
        assert not isinstance(client.channel().fetch(HOTPATCH), Reason)
        _fetches(world, tier, HOTPATCH)
    assert garbage_collect(store, timedelta(days=2), world.now) == ()
