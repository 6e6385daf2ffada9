"""What a publisher does and refuses, and what a signer is shown."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import Signer

from hotmend.model.errors import InputError, UsageError
from hotmend.repository import metadata, requests
from hotmend.repository.airgap import airgap_write
from hotmend.repository.bundles import Came
from hotmend.repository.client import Fetched, trust
from hotmend.repository.keys import key_generate, public_key_load, public_pem, signer_load
from hotmend.repository.layout import Tier
from hotmend.repository.metadata import KeySet
from hotmend.repository.publish import Founding, Publisher
from hotmend.repository.refusal import Refusal
from hotmend.repository.releases import KnownIssue
from hotmend.repository.requests import Signatures, SignatureShape
from hotmend.repository.store import Store
from tests.repository.kit import BASELINE, CHANNEL, HOTPATCH, World, baseline, bundle, hotpatch, no_secret, old_image


def _code(refusal: pytest.ExceptionInfo[Refusal]) -> str:
    return refusal.value.reason.code


def test_one_signature_after_another(world: World) -> None:
    pending = world.publisher().withdraw(CHANNEL, (HOTPATCH,), "it loops")
    assert pending is not None
    assert pending.missing == {f"stable.{CHANNEL}": 2}
    again = world.sign(pending, "stable2")
    assert again is not None
    assert again.missing == {f"stable.{CHANNEL}": 1}
    assert world.sign(pending, "stable2") is not None
    assert world.publisher().pending()[0].missing == {f"stable.{CHANNEL}": 1}
    assert world.sign(pending, "stable1") is None
    assert world.publisher().pending() == ()


def test_a_withdrawal_is_in_force_for_canary_before_anybody_signs(world: World) -> None:
    world.publisher().withdraw(CHANNEL, (HOTPATCH,), "it loops")
    entries = [world.client(tier).channel().index.find(HOTPATCH) for tier in (Tier.CANARY, Tier.STABLE)]
    assert [entry.withdrawn for entry in entries if entry] == ["it loops", None]


def test_a_known_issue_reaches_both_tiers(world: World) -> None:
    issue = KnownIssue("slow start", world.now, "wait")
    assert world.sign(world.publisher().add_issue(CHANNEL, HOTPATCH, issue), "stable1", "stable2") is None
    for tier in Tier:
        fetched = world.client(tier).channel().fetch(HOTPATCH)
        assert isinstance(fetched, Fetched)
        assert fetched.release.known_issues == (issue,)
        assert fetched.files


def test_what_cannot_be_added(world: World) -> None:
    publisher, release = world.publisher(), hotpatch(world.now)
    bundles = {release.files[0].name: bundle()}
    with pytest.raises(Refusal) as refusal:
        publisher.add(release, bundles)
    assert _code(refusal) == "release-exists"
    with pytest.raises(InputError, match="bundle is missing"):
        publisher.add(hotpatch(world.now, "second"), {})
    with pytest.raises(InputError, match="not the file"):
        publisher.add(hotpatch(world.now, "second"), {"second.0.hotmend": bundle()[:-1] + b"x"})
    second = hotpatch(world.now, "second", supersedes=(BASELINE,))
    with pytest.raises(Refusal) as refusal:
        publisher.add(second, {second.files[0].name: bundle()})
    assert _code(refusal) == "release-supersedes-another"


def test_a_hotpatch_without_its_baseline_goes_nowhere(original: World, tmp_path: Path) -> None:
    world = World(tmp_path, keys=original.keys or original.folder / "keys").found()
    release = hotpatch(world.now)
    with pytest.raises(Refusal) as refusal:
        world.publisher().add(release, {release.files[0].name: bundle()})
    assert _code(refusal) == "release-without-baseline"
    world.fill()
    with pytest.raises(Refusal) as refusal:
        world.publisher().promote(CHANNEL, (HOTPATCH,))
    assert _code(refusal) == "release-without-baseline"
    with pytest.raises(Refusal) as refusal:
        world.publisher().promote(CHANNEL, ("nothing",))
    assert _code(refusal) == "release-unknown"


def test_what_was_withdrawn_is_not_promoted(world: World) -> None:
    world.publisher().add(baseline(world.now, "next"), {})
    world.publisher().withdraw(CHANNEL, ("next",), "wrong day")
    with pytest.raises(Refusal) as refusal:
        world.publisher().promote(CHANNEL, ("next",))
    assert _code(refusal) == "release-withdrawn"


def test_a_request_that_was_overtaken_is_refused(world: World) -> None:
    world.publisher().add(baseline(world.now, "next"), {})
    first = world.publisher().promote(CHANNEL, ("next",))
    assert world.sign(world.publisher().withdraw(CHANNEL, (HOTPATCH,), "it loops"), "stable1", "stable2") is None
    assert [p.stale for p in world.publisher().pending()] == [True]
    with pytest.raises(Refusal) as refusal:
        world.sign(first, "stable1", "stable2")
    assert _code(refusal) == "request-out-of-date"


def test_a_signature_that_is_not_good_is_refused(world: World) -> None:
    pending = world.publisher().renew()
    good = world.signatures(pending, "root1")
    shape = good.signatures["root"][0]
    bad = SignatureShape(shape.keyid, "00" * 64)
    cases: tuple[dict[str, tuple[SignatureShape, ...]], ...] = (
        {"root": (bad,)},
        {"root": (SignatureShape("0" * 64, shape.sig),)},
        {"canary.x": (shape,)},
    )
    for signatures in cases:
        with pytest.raises(Refusal) as refusal:
            world.publisher().accept(Signatures(1, good.request, signatures))
        assert _code(refusal) == "signature-not-good"
    with pytest.raises(Refusal) as refusal:
        world.publisher().accept(Signatures(1, "0" * 64, good.signatures))
    assert _code(refusal) == "request-unknown"


def test_renewing_lets_offline_roles_live_on(world: World) -> None:
    world.later(days=50)
    pending = world.publisher().renew()
    names = ("root1", "root2", "targets1", "targets2", "stable1", "stable2")
    assert world.sign(pending, *names) is None
    state, settings, _ = world.publisher().contents()
    for role in ("root", "targets", f"stable.{CHANNEL}"):
        assert state.role(role).signed.version >= 2
        assert not metadata.expiry_of(role, state.role(role), settings.days, world.now).alert


def test_what_expires_within_14_days_raises_an_alert(world: World) -> None:
    state, settings, _ = world.publisher().contents()
    role = f"stable.{CHANNEL}"
    end = state.role(role).signed.expires
    for days, alert in ((14, True), (15, False), (-1, True)):
        found = metadata.expiry_of(role, state.role(role), settings.days, end - timedelta(days=days))
        assert found.alert is alert
    stamp = state.timestamp.signed.expires
    assert not metadata.expiry_of("timestamp", state.timestamp, settings.days, stamp - timedelta(days=6)).alert
    assert metadata.expiry_of("timestamp", state.timestamp, settings.days, stamp - timedelta(days=3)).alert


def test_refresh_signs_what_is_due(world: World) -> None:
    assert world.publisher().refresh() == ("timestamp",)
    world.later(days=8)
    assert world.publisher().refresh() == ("snapshot", "timestamp")
    world.later(days=8)
    assert f"canary.{CHANNEL}" in world.publisher().refresh()


@pytest.mark.parametrize("role", ["root", "targets", f"stable.{CHANNEL}"])
def test_offline_keys_are_rotated(world: World, role: str) -> None:
    client = world.client()
    client.channel()
    tier = role.partition(".")[0]
    old, new = public_key_load(Path(f"{world.key(tier + '1')}.pub")), world.public("online", threshold=1).keys
    pending = world.publisher().rekey(role, new, (old.keyid[:12],), None, ())
    sentences = {change.sentence for change in pending.changes}
    assert {f"key {new[0].keyid[:16]} may sign", f"key {old.keyid[:16]} may sign no more"} <= sentences
    others = ("root1", "root2", "targets1", "targets2", "stable1", "stable2", "online")
    assert world.sign(pending, *others) is None
    assert client.channel().index.find(HOTPATCH)
    state, _, _ = world.publisher().contents()
    assert old.keyid not in metadata.key_set_of(state.delegator(role), role).ids


def test_a_second_channel_has_keys_of_its_own(world: World) -> None:
    founding = world.founding()
    own = Founding(founding.root, founding.targets, world.public("root3", threshold=1), (), (str(world.key("online")),))
    pending = world.publisher().init("debian-13", own)
    assert world.sign(pending, "targets1", "targets2", "root3") is None
    state, _, _ = world.publisher().contents()
    assert state.channels == (CHANNEL, "debian-13")
    world.client().channel()
    with pytest.raises(UsageError):
        world.publisher().init("debian-13", own)


def test_thresholds_count_different_keys(world: World, tmp_path: Path) -> None:
    keys = world.public("root1", "root1", threshold=2)
    founding = world.founding()
    with pytest.raises(UsageError, match="twice"):
        Publisher(tmp_path / "new", no_secret).init(CHANNEL, Founding(keys, *_rest(founding)))
    many = KeySet(founding.root.keys, 4)
    with pytest.raises(UsageError, match="cannot be reached"):
        Publisher(tmp_path / "new", no_secret).init(CHANNEL, Founding(many, *_rest(founding)))


def _rest(founding: Founding) -> tuple[Any, ...]:
    return founding.targets, founding.stable, founding.online, founding.canary


def _tampered(world: World, pending_file: Path, role: str, edit: Any) -> requests.Request:
    request = requests.request_decode(pending_file.read_bytes())
    proposed = request.role(role)
    edit(proposed.signed)
    return requests.Request(
        {**request.proposed, role: proposed.to_bytes()}, request.roots, request.current, request.files
    )


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: setattr(s, "version", 9), "version 9"),
        (lambda s: s.targets.pop(f"{CHANNEL}/stable/{HOTPATCH}.0.hotmend"), "disappear"),
        (lambda s: s.targets.update({"a/b": metadata.target_of("a/b", b"x")}), "does not belong"),
        (
            lambda s: s.targets.update(
                {f"{CHANNEL}/stable/index.json": metadata.target_of(f"{CHANNEL}/stable/index.json", b"x")}
            ),
            "is not the file",
        ),
    ],
)
def test_a_signer_is_not_shown_what_a_lying_publisher_wants(world: World, edit: Any, message: str) -> None:
    world.publisher().add(baseline(world.now, "next"), {})
    pending = world.publisher().promote(CHANNEL, ("next",))
    request = requests.request_decode(pending.path.read_bytes())
    assert any("adds the baseline next: 2 packages" in c.sentence for c in requests.review(request, world.first_root))
    with pytest.raises(InputError, match=message):
        requests.review(_tampered(world, pending.path, f"stable.{CHANNEL}", edit))
    with pytest.raises(InputError, match="whose root you trust"):
        requests.review(request, b"{}")


def test_the_bundle_for_machines_without_a_network(world: World, tmp_path: Path) -> None:
    file = tmp_path / "channel.tar"
    count = airgap_write(Store(world.repository), file, (), (Tier.STABLE,))
    assert count == 10  # root, timestamp, snapshot, targets, stable; index, two documents, one bundle and its delta
    assert isinstance(world.client().channel(file).fetch(HOTPATCH), Fetched)
    channel = world.client(old=old_image).channel(file)
    assert isinstance(channel.fetch(HOTPATCH), Fetched)
    assert [arrival.how for arrival in channel.arrivals] == [Came.DELTA]
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(InputError):
        world.client().open(file)


def test_a_client_keeps_the_root_it_trusts(world: World, tmp_path: Path) -> None:
    client = world.client()
    trust(client.folder, world.first_root)
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other").make_keys().found()
    with pytest.raises(UsageError):
        trust(client.folder, other.first_root)


def test_a_key_file_can_have_a_passphrase(tmp_path: Path) -> None:
    key = key_generate(tmp_path / "key", "open sesame")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    signer: Signer = signer_load(str(tmp_path / "key"), lambda _: "open sesame")
    assert signer.public_key.keyid == key.keyid == public_key_load(tmp_path / "key.pub").keyid
    with pytest.raises(InputError):
        signer_load(str(tmp_path / "key"), lambda _: "wrong")
    with pytest.raises(UsageError):
        key_generate(tmp_path / "key")
    assert public_pem(key).startswith(b"-----BEGIN PUBLIC KEY")


def test_a_withdrawal_that_another_request_has_overtaken_is_asked_for_again(world: World) -> None:
    """A promotion is signed first, which puts the withdrawal out of date: stable machines must not keep the release."""
    second = hotpatch(world.now, "second", supersedes=(HOTPATCH,))
    world.publisher().add(second, {second.files[0].name: bundle()})
    world.publisher().withdraw(CHANNEL, (HOTPATCH,), "it loops")
    assert world.publisher().unasked(CHANNEL) == ()
    assert world.publisher().ask_again(CHANNEL) is None
    promotion = world.publisher().promote(CHANNEL, ("second",))
    assert world.sign(promotion, "stable1", "stable2") is None
    assert world.publisher().unasked(CHANNEL) == (HOTPATCH,)
    again = world.publisher().ask_again(CHANNEL)
    assert again is not None
    assert world.publisher().unasked(CHANNEL) == ()
    assert world.sign(again, "stable1", "stable2") is None
    stable = {entry.id: entry.withdrawn for entry in world.client().channel().index.releases}
    assert stable == {BASELINE: None, HOTPATCH: "it loops", "second": None}
    assert (world.publisher().unasked(CHANNEL), world.publisher().ask_again(CHANNEL)) == ((), None)


def test_an_amendment_whose_request_was_never_written_is_asked_for(world: World) -> None:
    pending = world.publisher().withdraw(CHANNEL, (HOTPATCH,), "it loops")
    assert pending is not None
    world.publisher().discard(pending)  # as if its maker had died between the two
    assert world.publisher().unasked(CHANNEL) == (HOTPATCH,)
    again = world.publisher().ask_again(CHANNEL)
    assert again is not None
    assert [change.role for change in again.changes] == [change.role for change in pending.changes]
