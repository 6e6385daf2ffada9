"""A channel of Debian 12 over a quarter: `make quarter`.

Stock packages, a distribution that grows week by week, real keys, a canary and a stable machine: a baseline, two months
of hotpatches, an unplanned baseline (expat), a release that is withdrawn, and keys that are replaced. The quarter's
clock is its own; everything else is real. All happens in a temporary folder; nothing is installed.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from demo.living import Living, living
from demo.rebuilt import PACKAGE as REBUILT
from demo.rebuilt import middle_deb
from demo.run import DemoError
from hotmend.agent.old_images import old_image
from hotmend.model.errors import HotmendError
from hotmend.model.verdict import Reason
from hotmend.publisher.release.plan import plan_load
from hotmend.publisher.release.run import Settings, run_publish
from hotmend.publisher.release.session import Done
from hotmend.repository.bundles import Came, OldImage
from hotmend.repository.client import Channel, Fetched
from hotmend.repository.layout import DELTA_SUFFIX, Tier
from hotmend.repository.metadata import with_files
from hotmend.repository.releases import AnyRelease, Baseline, HotpatchRelease, KnownIssue, ReleaseFile
from hotmend.repository.waiting import Pending
from tests.release.archive import MAIN, SECURITY, Archive, keyring
from tests.repository.kit import CHANNEL, Client, World
from tests.servers.packages import ArchiveError, Pair, deb_unpack, pair_find

SOURCES = ("nginx", "redis", "haproxy", "apache2", "openssl", "expat", "xz-utils", "libpng1.6")
PACKAGES = (
    "nginx",
    "redis-tools",
    "haproxy",
    "apache2-bin",
    "libssl3",
    "openssl",
    "libexpat1",
    "expat",
    "liblzma5",
    "xz-utils",
    "libpng16-16",
)
_CYCLE_DAYS = 80
_MONTHS = 3
"""After so many days comes the next planned baseline, whatever month the demonstration is run in."""


@dataclass
class Figures:
    """What was measured: seconds from a change of the archive to the signed canary release, and so on.

    `fetched_bytes` are bundles or their deltas, documents and index; `whole_bytes` the same without any delta,
    `naming_bytes` what each version of the tier's metadata takes to name the deltas, and `metadata_bytes` all metadata
    that a machine found changed.
    """

    runs: list[float] = field(default_factory=list)
    releases: int = 0
    fetched_bytes: list[int] = field(default_factory=list)
    whole_bytes: list[int] = field(default_factory=list)
    naming_bytes: dict[int, int] = field(default_factory=dict)
    metadata_bytes: list[int] = field(default_factory=list)
    verify: list[float] = field(default_factory=list)


class Quarter:
    """The vendor, its distribution and two machines."""

    def __init__(self, folder: Path, home: Path, public: Path) -> None:
        self.folder = folder
        self.archive = Archive(folder / "archive", home, public)
        self.world = World(folder).make_keys().found()
        due = self.world.now + timedelta(days=_CYCLE_DAYS)
        cycle = f"[cycle]\nmonths = [{due.month}]\nday = {min(due.day, 28)}\n"
        self.settings = f'manifest = "watched"\n[tiers]\npromote_after_days = 7\n{cycle}'
        self.plan = self.archive.plan(folder, CHANNEL, SOURCES, self.settings)
        self.pairs: dict[str, Pair] = {name: pair_find(name) for name in PACKAGES}
        # The canary machine has the baseline's packages on its disk.
        for name, pair in self.pairs.items():
            deb_unpack(pair.old, folder / "disk" / name)
        trees = [old_image((), folder / "disk" / name) for name in PACKAGES]
        old: dict[Tier, OldImage] = {Tier.CANARY: lambda i: next((f for tree in trees if (f := tree(i))), None)}
        self.machines: dict[Tier, Client] = {tier: self.world.client(tier, old.get(tier)) for tier in Tier}
        self.figures = Figures()
        self.day = 0

    def pass_days(self, days: int, what: str) -> None:
        """Let days go by."""
        self.world.later(days=days)
        self.day += days
        print(f"\nDay {self.day}: {what}")

    def update(self, *packages: str) -> None:
        """Offer the security updates of packages."""
        for package in packages:
            self.archive.offer(SECURITY, package, self.pairs[package].new)

    def run(self) -> Done:
        """Do what a timer does."""
        self.archive.publish()
        began = time.monotonic()
        plan = plan_load(self.plan)
        before = _size(self.world.mirror)
        done = run_publish(plan, self.world.publisher(), Settings(), lambda: self.world.now, lambda *_: None)
        seconds = time.monotonic() - began
        grown = _size(self.world.mirror) - before
        if done.published:
            self.figures.runs.append(seconds)
            self.figures.releases += len(done.published)
            print(f"  published to canary in {seconds:.1f} s: {', '.join(done.published)}; repository {grown:+,} bytes")
        for problem in done.problems:
            print(f"  for a person: {problem}")
        for identity in done.published:
            self.tell(identity)
        return done

    def release(self, identity: str) -> AnyRelease:
        """Return a release of the canary tier."""
        _, _, contents = self.world.publisher().contents()
        return next(c for c in contents if c.tier is Tier.CANARY).releases[identity]

    def tell(self, identity: str) -> None:
        """Print what a hotpatch is made for."""
        release = self.release(identity)
        print(f"  {release.title}; urgency {release.urgency}; {len(release.cves)} CVE ids")
        if isinstance(release, HotpatchRelease):
            for file in release.files:
                image = file.images[0]
                functions = sum(i.changed + i.added for i in file.images)
                steps = f"{image.old_version} -> {image.new_version}"
                print(f"    {image.package:12} {steps:42} {functions:4} functions {file.bytes:8,} bytes")

    def sign(self, pending: Pending | None, *keys: str) -> None:
        """Take a request to whoever has the keys, and back."""
        if pending is None:
            raise DemoError("nothing waits for signatures")
        if self.world.sign(pending, *keys) is not None:
            raise DemoError(f"{', '.join(keys)} are not enough")
        print(f"  signed by {', '.join(keys)}: {'; '.join(change.sentence for change in pending.changes)[:150]}")

    def check(self, tier: Tier, newest: str | None) -> None:
        """Let a machine look, and fetch the newest hotpatch; None: it must not be offered one."""
        metadata = self.machines[tier].folder / "metadata"
        before = _contents(metadata)
        channel = self.machines[tier].open()
        if isinstance(channel, Reason):
            raise DemoError(f"the {tier} machine refuses: {channel.sentence}")
        if tier is Tier.CANARY:
            changed = [data for path, data in _contents(metadata).items() if before.get(path) != data]
            self.figures.metadata_bytes.append(sum(map(len, changed)))
        entries = [e for e in channel.index.releases if e.kind == "hotpatch" and e.withdrawn is None]
        if (entries[-1].id if entries else None) != newest:
            raise DemoError(f"the {tier} machine is offered {entries[-1].id if entries else None}, not {newest}")
        told = self._fetch(channel, newest) if newest else "no hotpatch yet"
        print(f"  {tier} machine: {told}")

    def apply(self, process: Living) -> None:
        """Let a process that lives on follow the canary tier."""
        newest = [e for e in self.machines[Tier.CANARY].channel().index.releases if e.kind == "hotpatch"]
        fetched = self.machines[Tier.CANARY].channel().fetch([e.id for e in newest if e.withdrawn is None][-1])
        if not isinstance(fetched, Fetched):
            raise DemoError(fetched.sentence)
        print(f"  a process that lives on: {REBUILT} {process.follow(fetched)}")

    def _fetch(self, channel: Channel, identity: str) -> str:
        files = self.machines[channel.tier].folder / "files"
        before = _documents_size(files)
        began = time.monotonic()
        fetched = channel.fetch(identity)
        seconds = time.monotonic() - began
        if not isinstance(fetched, Fetched):
            raise DemoError(f"the {channel.tier} machine refuses {identity}: {fetched.sentence}")
        documents = _documents_size(files) - before
        sizes = {f.name: f.bytes for f in fetched.release.files} if isinstance(fetched.release, HotpatchRelease) else {}
        new = [arrival for arrival in channel.arrivals if arrival.how is not Came.HERE]
        loaded = documents + sum(arrival.bytes for arrival in new)
        self.figures.verify.append(seconds)
        if channel.tier is Tier.CANARY:
            self.figures.fetched_bytes.append(loaded)
            self.figures.whole_bytes.append(documents + sum(sizes[arrival.name] for arrival in new))
            self._name_deltas()
        deltas = sum(arrival.how is Came.DELTA for arrival in new)
        told = f"{len(new)} bundles, {deltas} of them against the old images"
        return f"{identity} verified in {seconds * 1000:.0f} ms, {loaded:,} bytes new ({told})"

    def _name_deltas(self) -> None:
        """Note what it takes to name the deltas in the metadata that a canary machine fetches now."""
        state, _, _ = self.world.publisher().contents()
        role = state.delegated[f"canary.{CHANNEL}"]
        without = {path: t for path, t in role.signed.targets.items() if not path.endswith(DELTA_SUFFIX)}
        sizes = [len(with_files(role, files).to_bytes()) for files in (role.signed.targets, without)]
        self.figures.naming_bytes[role.signed.version] = sizes[0] - sizes[1]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*.json")} if folder.is_dir() else {}


def _documents_size(folder: Path) -> int:
    files = [path for path in folder.rglob("*.json") if path.is_file()] if folder.is_dir() else []
    return sum(path.stat().st_size for path in files)


def play(quarter: Quarter) -> None:
    """Play the quarter.

    Raises:
        DemoError: something did not go as it should.
    """
    xz = quarter.pairs[REBUILT]
    with living(xz.old, REBUILT, xz.old_version, quarter.folder / "living") as process:
        base, middle = _first_month(quarter)
        quarter.apply(process)
        last = _expat(quarter, base)
        bad = _second_month(quarter, middle)
        fixed = _withdrawal(quarter, bad, last)
        # The second takes over from the first in one switch; the process has never been restarted.
        quarter.apply(process)
    _keys(quarter, base)
    quarter.pass_days(7, "promotion, by the new key")
    quarter.sign(quarter.run().pending, "stable1", "stable3")
    quarter.check(Tier.STABLE, fixed)
    quarter.check(Tier.CANARY, fixed)
    quarter.pass_days(_CYCLE_DAYS - quarter.day + 3, "the next planned baseline")
    following = quarter.release(quarter.run().published[0])
    if not isinstance(following, Baseline) or following.id == base:
        raise DemoError("the next baseline did not come")


def _first_month(quarter: Quarter) -> tuple[str, str]:
    """Return the baseline's id, and the version of xz that is between two releases."""
    pairs = quarter.pairs
    print("A middle version of xz is rebuilt from Debian's source with one of its three security patches")
    middle_version = f"{pairs[REBUILT].old_version}+part1"
    middle = middle_deb(pairs[REBUILT].old, middle_version, pairs[REBUILT].new_version, quarter.folder / "xz")

    quarter.pass_days(0, "the planned baseline")
    for package in PACKAGES:
        quarter.archive.offer(MAIN, package, pairs[package].old)
    base = quarter.run().published[0]
    quarter.check(Tier.STABLE, None)

    quarter.pass_days(9, "first month: redis, haproxy, libpng, and xz in part")
    quarter.update("redis-tools", "haproxy", "libpng16-16")
    quarter.archive.offer(SECURITY, REBUILT, middle)
    quarter.run()
    quarter.check(Tier.CANARY, f"{base}.h1")
    quarter.check(Tier.STABLE, None)
    quarter.pass_days(7, "canary has had it for a week")
    quarter.sign(quarter.run().pending, "stable1", "stable2")
    quarter.check(Tier.STABLE, f"{base}.h1")
    return base, middle_version


def _expat(quarter: Quarter, base: str) -> str:
    """Return the newest hotpatch."""
    quarter.pass_days(5, "expat: a structure grew")
    quarter.update("libexpat1", "expat")
    done = quarter.run()
    if f"{base}.u-expat" not in done.published:
        raise DemoError("expat did not become an unplanned baseline")
    last = next((i for i in done.published if ".h" in i), f"{base}.h1")
    quarter.check(Tier.CANARY, last)
    return last


def _second_month(quarter: Quarter, middle: str) -> str:
    """Return the newest hotpatch."""
    quarter.pass_days(16, "second month: nginx, apache2, openssl, and the rest of xz, from both versions before")
    quarter.update("nginx", "apache2-bin", "libssl3", "openssl", "liblzma5", "xz-utils")
    bad = next(i for i in quarter.run().published if ".h" in i)
    quarter.check(Tier.CANARY, bad)
    xz = {i.old_version for f in _files(quarter, bad) for i in f.images if i.package == REBUILT}
    if xz != {quarter.pairs[REBUILT].old_version, middle}:
        raise DemoError(f"xz is patched from {xz}")
    return bad


def _withdrawal(quarter: Quarter, bad: str, last: str) -> str:
    """Return the hotpatch in place of the one that was withdrawn."""
    world = quarter.world
    quarter.pass_days(1, "somebody finds a fault in the nginx of that release: it is withdrawn")
    world.publisher().add_issue(CHANNEL, bad, KnownIssue("nginx: a worker hangs", world.now, "revert it"))
    world.publisher().withdraw(CHANNEL, (bad,), "nginx: a worker hangs")
    quarter.check(Tier.CANARY, last)
    if quarter.run().published:
        raise DemoError("what was withdrawn came back by itself")
    good = tuple(f.name for f in _files(quarter, bad) if f.images[0].package != "nginx")
    quarter.plan = quarter.archive.plan(quarter.folder, CHANNEL, SOURCES, f"again = {list(good)!r}\n{quarter.settings}")
    fixed = next(i for i in quarter.run().published if ".h" in i)
    if any(i.package == "nginx" for f in _files(quarter, fixed) for i in f.images):
        raise DemoError("nginx came back")
    quarter.check(Tier.CANARY, fixed)
    return fixed


def _keys(quarter: Quarter, base: str) -> None:
    world = quarter.world
    quarter.pass_days(3, "a stable key and the online key are replaced")
    world.make_key("stable3")
    world.make_key("online2")
    old = world.public("stable2", threshold=1).keys[0].keyid
    pending = world.publisher().rekey(f"stable.{CHANNEL}", world.public("stable3", threshold=1).keys, (old,), 2, ())
    quarter.sign(pending, "targets1", "targets2", "stable1", "stable3")
    online = world.public("online", threshold=1).keys[0].keyid
    for role in ("timestamp", "snapshot"):
        pending = world.publisher().rekey(role, (), (online,), 1, (str(world.key("online2")),))
        quarter.sign(pending, "root1", "root2")
    quarter.check(Tier.STABLE, f"{base}.h1")


def _files(quarter: Quarter, identity: str) -> tuple[ReleaseFile, ...]:
    release = quarter.release(identity)
    return release.files if isinstance(release, HotpatchRelease) else ()


def _report(quarter: Quarter) -> None:
    figures = quarter.figures
    debs = sum(pair.new.stat().st_size for pair in quarter.pairs.values())
    print("\nMeasured:")
    print(
        f"  archive change -> signed canary release: median {statistics.median(figures.runs):.1f} s, "
        f"worst {max(figures.runs):.1f} s; {figures.releases} releases, "
        f"{figures.releases * 3600 / sum(figures.runs):.0f} an hour"
    )
    size = _size(quarter.world.mirror)
    print(f"  repository: {size:,} bytes, {size // figures.releases:,} a release, both tiers")
    fetched, whole = sum(figures.fetched_bytes), sum(figures.whole_bytes)
    naming = sum(figures.naming_bytes.values())
    print(
        f"  a machine with all packages fetched {fetched:,} bytes of hotpatches, {whole:,} without deltas; "
        f"apt {debs:,}; naming the deltas took {naming:,} bytes of metadata"
    )
    signed = sum(figures.metadata_bytes)
    print(
        f"  and {signed:,} bytes of signed metadata, in {len(figures.metadata_bytes)} looks; all of it "
        f"{(fetched + signed) // _MONTHS:,} bytes a month, apt {debs // _MONTHS:,}"
    )
    print(f"  verification of a release: at most {max(figures.verify) * 1000:.0f} ms")


def main() -> int:
    """Play the quarter; return 0 when everything went as it should."""
    try:
        with tempfile.TemporaryDirectory(prefix="hotmend-quarter-") as name, keyring("sample") as (home, public):
            quarter = Quarter(Path(name), home, public)
            play(quarter)
            _report(quarter)
    except (HotmendError, ArchiveError) as error:
        print(f"\nquarter: {error}", file=sys.stderr)
        return 1
    print("\nDone: every release was verified by a canary and a stable machine.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
