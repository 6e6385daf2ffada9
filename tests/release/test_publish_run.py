"""From a signed suite to releases: a baseline, cumulative hotpatches, an unplanned baseline, promotion, retention."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from hotmend.cli.main import run
from hotmend.model.errors import FetchError
from hotmend.package.bundle import unpack
from hotmend.publisher.release.mirror import Mirror
from hotmend.publisher.release.plan import plan_load
from hotmend.publisher.release.run import Settings, run_publish
from hotmend.publisher.release.session import Done
from hotmend.repository.client import Fetched
from hotmend.repository.layout import Tier
from hotmend.repository.releases import AnyRelease, Baseline, HotpatchRelease, UnplannedBaseline
from tests.release.archive import SECURITY, Archive, keyring
from tests.release.vendor import PACKAGES, Vendor
from tests.repository.kit import CHANNEL


def _applies(release: AnyRelease) -> set[tuple[str, str, str]]:
    """Return package, old and new version of everything that a hotpatch is made for."""
    assert isinstance(release, HotpatchRelease)
    return {(i.package, i.old_version, i.new_version) for file in release.files for i in file.images}


def test_a_quarter(vendor: Vendor) -> None:
    """Baseline; a hotpatch; a cumulative one for machines at three levels; a fix that cannot be hot-patched."""
    world, archive = vendor.world, vendor.archive
    done = vendor.run()
    base = done.published[0]
    baseline = vendor.releases()[base]
    assert isinstance(baseline, Baseline)
    assert {(p.name, p.version, len(p.build_ids)) for p in baseline.manifest.packages} == {
        (package, "1.0-1", 1) for package in PACKAGES
    }
    assert vendor.run().published == []

    world.later(days=10)
    archive.put(SECURITY, "alpha", "1.0-2", factor=5, cve="CVE-2026-2001")
    assert vendor.run().published == [f"{base}.h1"]
    first = vendor.releases()[f"{base}.h1"]
    assert isinstance(first, HotpatchRelease)
    assert (first.cves, first.urgency, first.classification) == (("CVE-2026-2001",), "high", "security")
    assert "a number was wrong" in first.notes
    assert {file.builders for file in first.files} == {("local/1", "local/2")}

    world.later(days=10)
    archive.put(SECURITY, "alpha", "1.0-3", factor=7, cve="CVE-2026-2002")
    archive.put(SECURITY, "gamma", "1.0-2", factor=9, cve="CVE-2026-2003")
    assert vendor.run().published == [f"{base}.h2"]
    second = vendor.releases()[f"{base}.h2"]
    assert isinstance(second, HotpatchRelease)
    assert _applies(second) == {("alpha", "1.0-1", "1.0-3"), ("alpha", "1.0-2", "1.0-3"), ("gamma", "1.0-1", "1.0-2")}
    assert second.supersedes == (first.id,)
    assert second.cves == ("CVE-2026-2001", "CVE-2026-2002", "CVE-2026-2003")

    world.later(days=1)
    archive.put(SECURITY, "beta", "1.0-2", grows=True, cve="CVE-2026-2004")
    archive.put(SECURITY, "gamma", "1.0-3", grows=True, factor=9, cve="CVE-2026-2005")
    assert vendor.run().published == [f"{base}.u-beta", f"{base}.u-gamma"]
    unplanned = vendor.releases()[f"{base}.u-beta"]
    assert isinstance(unplanned, UnplannedBaseline)
    assert unplanned.cves == ("CVE-2026-2004",)
    assert [(p.old_version, p.new_version) for p in unplanned.packages] == [("1.0-1", "1.0-2")]
    assert {reason.code for image in unplanned.images for reason in image.reasons}
    assert vendor.run().published == []

    # What gamma's machines had in the second hotpatch stays in the third, though its newest fix is not in.
    archive.put(SECURITY, "alpha", "1.0-4", factor=11, cve="CVE-2026-2006")
    assert vendor.run().published == [f"{base}.h3"]
    third = vendor.releases()[f"{base}.h3"]
    assert _applies(third) == {("alpha", f"1.0-{n}", "1.0-4") for n in (1, 2, 3)} | {("gamma", "1.0-1", "1.0-2")}

    client = world.client(Tier.CANARY).channel()
    fetched = client.fetch(third.id)
    assert isinstance(fetched, Fetched)
    assert sum(len(hotpatches) for _, hotpatches in fetched.files) == 4


def test_a_baseline_comes_when_the_cycle_says(vendor: Vendor) -> None:
    cycle = "[cycle]\nmonths = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]\nday = 10\n[tiers]\npromote = false"
    vendor.plan(cycle)
    first = vendor.run().published
    vendor.archive.put(SECURITY, "alpha", "1.0-2", factor=5)
    vendor.world.later(days=62)
    second = vendor.run().published
    assert second != first
    assert len(second) == 2
    baseline, hotpatch = (vendor.releases()[i] for i in second)
    # Machines of the new baseline have the fix; those of the one before get it as a hotpatch.
    assert isinstance(baseline, Baseline)
    assert {(p.name, p.version, p.security) for p in baseline.manifest.packages} >= {("alpha", "1.0-2", True)}
    assert isinstance(hotpatch, HotpatchRelease)
    assert hotpatch.requires == first[0]
    vendor.plan(f"{cycle}\n[retention]\nbaselines = 1")
    assert set(vendor.run().withdrawn) == {first[0], hotpatch.id}
    assert vendor.run().withdrawn == []


def test_promotion_waits_and_retention_withdraws(vendor: Vendor) -> None:
    world = vendor.world
    vendor.plan("[tiers]\npromote_after_days = 3\n[retention]\nsuperseded = 0\ngrace_days = 5")
    vendor.run()
    for number in (2, 3):
        vendor.archive.put(SECURITY, "alpha", f"1.0-{number}", factor=number + 3)
        done = vendor.run()
    assert done.pending is None
    names = set(vendor.releases())
    base = min(names)
    assert done.withdrawn == [f"{base}.h1"]
    world.later(days=4)
    done = vendor.run()
    assert done.pending is not None
    assert {m for m in names if any(f" {m}:" in c.sentence or f" {m} " in c.sentence for c in done.pending.changes)}
    assert vendor.run().pending is None, "one request at a time"
    assert world.sign(done.pending, "stable1", "stable2") is None
    assert set(vendor.releases(Tier.STABLE)) == {base, f"{base}.h2"}
    files = set((world.mirror / "targets").rglob("*.hotmend"))
    world.later(days=6)
    assert vendor.run().collected
    left = set((world.mirror / "targets").rglob("*.hotmend"))
    assert left < files
    for tier in Tier:
        fetched = world.client(tier).channel().fetch(f"{base}.h2")
        assert isinstance(fetched, Fetched)
        assert unpack(fetched.files[0][0].read_bytes())


def test_what_was_withdrawn_is_not_published_again_by_itself(vendor: Vendor) -> None:
    vendor.run()
    vendor.archive.put(SECURITY, "alpha", "1.0-2", factor=5)
    bad = vendor.run().published[0]
    names = [file.name for file in vendor.releases()[bad].files]  # type: ignore[union-attr]
    vendor.world.publisher().withdraw(CHANNEL, (bad,), "it loops")
    done = vendor.run()
    assert done.published == []
    assert any(names[0] in problem for problem in done.problems)
    vendor.plan(f"again = {names!r}")
    assert vendor.run().published == [bad.replace("h1", "h2")]


def _tamper_list(archive: Archive) -> None:
    path = archive.root / "dists" / SECURITY / "main" / "binary-amd64" / "Packages"
    path.write_bytes(path.read_bytes() + b"\n")


def _tamper_release(archive: Archive) -> None:
    path = archive.root / "dists" / SECURITY / "InRelease"
    path.write_bytes(path.read_bytes().replace(b"Origin: Sample", b"Origin: Simple"))


def _unsign(archive: Archive) -> None:
    (archive.root / "dists" / SECURITY / "InRelease").unlink()


def _another_key(archive: Archive) -> None:
    with keyring("evil") as (home, _):
        Archive(archive.root, home, archive.public, archive.offers).publish()


def _tamper_package(archive: Archive) -> None:
    deb = archive.offers[SECURITY]["alpha"]
    data = bytearray(deb.read_bytes())
    data[len(data) // 2] ^= 1
    deb.write_bytes(data)


@pytest.mark.parametrize("attack", [_tamper_list, _tamper_release, _unsign, _another_key])
def test_lists_that_lie_are_refused(distribution: Archive, tmp_path: Path, attack: Callable[[Archive], None]) -> None:
    archive = distribution.copy(tmp_path / "archive")
    archive.publish()
    mirror = Mirror(plan_load(archive.plan(tmp_path, CHANNEL, PACKAGES)))
    mirror.update()
    assert mirror.offers().keys() == set(PACKAGES)
    archive.put(SECURITY, "alpha", "1.0-2", factor=5)
    archive.publish()
    attack(archive)
    with pytest.raises(FetchError):
        mirror.update()
    assert mirror.offers()["alpha"].offer.version == "1.0-1"


def test_lists_that_were_good_once_do_not_come_back(distribution: Archive, tmp_path: Path) -> None:
    """A mirror serves an old state, rightly signed: apt keeps the one it has; what has expired it refuses."""
    archive = distribution.copy(tmp_path / "archive")
    archive.publish(day=1)
    old = shutil.copytree(archive.root / "dists", tmp_path / "old")
    mirror = Mirror(plan_load(archive.plan(tmp_path, CHANNEL, PACKAGES)))
    archive.put(SECURITY, "alpha", "1.0-2", factor=5)
    archive.publish(day=2)
    mirror.update()
    shutil.rmtree(archive.root / "dists")
    shutil.copytree(old, archive.root / "dists")
    with contextlib.suppress(FetchError):
        mirror.update()
    assert mirror.offers()["alpha"].offer.version == "1.0-2"
    archive.publish(day=3, valid_until="Mon, 05 Jan 2026 00:00:00 UTC")
    with pytest.raises(FetchError, match="expired"):
        mirror.update()


def test_a_package_that_is_not_the_one_in_the_list_is_refused(vendor: Vendor) -> None:
    base = vendor.run().published[0]
    vendor.archive.put(SECURITY, "alpha", "1.0-2", factor=5)
    vendor.archive.publish()
    _tamper_package(vendor.archive)
    done = _again(vendor, Settings(workers=1))
    assert done.problems
    assert set(vendor.releases()) == {base}


def test_an_archive_that_goes_away_in_the_middle_publishes_nothing_and_the_next_run_goes_on(vendor: Vendor) -> None:
    base = vendor.run().published[0]
    root = vendor.archive.root
    vendor.archive.put(SECURITY, "alpha", "1.0-2", factor=5)
    vendor.archive.publish()
    (root / "pool").rename(root / "away")  # the lists are there, the packages are not
    done = _again(vendor, Settings(workers=1))
    assert (done.published, bool(done.problems), set(vendor.releases())) == ([], True, {base})
    (root / "dists").rename(root / "gone")
    with pytest.raises(FetchError):
        _again(vendor, Settings(workers=1))
    assert {entry.id for entry in vendor.world.client(Tier.CANARY).channel().index.releases} == {base}
    (root / "gone").rename(root / "dists")
    (root / "away").rename(root / "pool")
    assert _again(vendor, Settings(workers=1)).published == [f"{base}.h1"]


def test_a_build_that_runs_out_of_time_is_no_hotpatch_and_says_so(vendor: Vendor) -> None:
    base = vendor.run().published[0]
    vendor.archive.put(SECURITY, "alpha", "1.0-2", factor=5)
    vendor.archive.publish()
    done = _again(vendor, Settings(workers=1, build_seconds=0.001))
    assert done.published == [f"{base}.u-alpha"]
    assert any("took longer" in problem for problem in done.problems)
    told = vendor.world.client(Tier.CANARY).channel().release(done.published[0])
    assert isinstance(told, UnplannedBaseline)
    assert "took longer" in told.notes
    assert [(step.name, step.new_version) for step in told.packages] == [("alpha", "1.0-2")]


def _again(vendor: Vendor, settings: Settings) -> Done:
    """Run with the lists as they are."""
    plan = plan_load(vendor.file)
    return run_publish(plan, vendor.world.publisher(), settings, lambda: vendor.world.now, lambda *_: None)


@pytest.mark.archive
def test_debians_own_suites_are_checked_with_debians_keys(tmp_path: Path) -> None:
    """The real security archive; and with the keys of another release of Debian it is refused."""
    plan = tmp_path / "plan.toml"
    text = """channel = "debian-12"
packages = ["expat"]
[[suite]]
name = "bookworm-security"
uri = "http://deb.debian.org/debian-security"
security = true
"""
    plan.write_text(text)
    mirror = Mirror(plan_load(plan))
    mirror.update()
    assert mirror.offers()["libexpat1"].security
    plan.write_text(text + 'signed_by = "/usr/share/keyrings/debian-archive-bullseye-stable.gpg"\n')
    with pytest.raises(FetchError):
        Mirror(plan_load(plan)).update()


def test_what_people_have_to_sign_soon_is_told(vendor: Vendor) -> None:
    vendor.run()
    state, _, _ = vendor.world.publisher().contents()
    role = f"stable.{CHANNEL}"
    vendor.world.now = state.role(role).signed.expires - timedelta(days=10)
    done = vendor.run()
    assert any(role in problem and "10 days" in problem for problem in done.problems)
    assert not any("canary" in problem for problem in done.problems), "this host signs that itself"


def test_an_independent_builder_sees_whether_a_release_is_what_it_says(
    vendor: Vendor, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    vendor.run()
    vendor.archive.put(SECURITY, "alpha", "1.0-2", factor=5)
    release = vendor.run().published[0]
    (tmp_path / "elsewhere").mkdir()
    plan = vendor.archive.plan(tmp_path / "elsewhere", CHANNEL, PACKAGES)
    root = tmp_path / "root.json"
    root.write_bytes(vendor.world.first_root)
    mirror = str(vendor.world.mirror)
    words = ["publish", "check", mirror, str(plan), release, "--root", str(root), "--workers", "1", "--json"]
    assert run(words) == 0
    bundles = json.loads(capfd.readouterr().out)["bundles"]
    assert [bundle["same"] for bundle in bundles] == [True]
    # The same plan with another package of the same name and version is not what the release was made of.
    shutil.rmtree(tmp_path / "elsewhere" / CHANNEL / "debs")
    vendor.archive.put(SECURITY, "alpha", "1.0-2", factor=6)
    vendor.archive.publish()
    assert run(words) == 4
    assert [bundle["same"] for bundle in json.loads(capfd.readouterr().out)["bundles"]] == [False]
