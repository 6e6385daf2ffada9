"""Hotpatches that a signed channel has ready for what apt has waiting; and on the spot where it has none.

A channel's hotpatch takes the place of the comparison here only where it says all that the comparison would: it brings
exactly the builds of the package that apt has fetched, and whatever else these processes map of the package is shown to
hold the same code. It is verified as the agent does; nothing that is not signed is looked into.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hotmend.agent.apt.earlier import read_earlier
from hotmend.agent.apt.installed import read_installed
from hotmend.agent.apt.later import needed_later
from hotmend.agent.configuration import ChannelSource
from hotmend.agent.machine import Machine
from hotmend.agent.memory import Coverage, Manner, Origin, Prepared, Want, made_here
from hotmend.agent.sources import ChannelUpdates, Offer
from hotmend.image.deb import Deb, ElfFile, read_deb
from hotmend.linux.process import content_build_id, processes_mapping
from hotmend.model.addresses import BuildId
from hotmend.model.errors import HotmendError, InputError
from hotmend.model.hotpatch import Hotpatch, Outcome
from hotmend.model.verdict import Verdict
from hotmend.publisher.build import build_packages
from hotmend.publisher.pairing import FilePair, FileState, pair_files
from hotmend.publisher.update import FileReport, Side, Update

Pair = FilePair[ElfFile]


class NotReadyMadeError(HotmendError):
    """The channel has no hotpatch that can be used."""


@dataclass
class ReadyMade:
    """A channel as it was when it was opened, for one run.

    Attributes:
        updates: of the channel.
        offers: what concerns processes of this machine.
        closed: why the channel cannot be used; "" where it can.
        only: nothing is made here.
    """

    updates: ChannelUpdates
    offers: tuple[Offer, ...]
    closed: str
    only: bool

    def __call__(self, want: Want, manner: Manner) -> tuple[Update, Prepared]:
        """Return the channel's hotpatches for some processes; made here where it has none.

        Raises:
            HotmendError: there are none, with the reason.
        """
        try:
            return self._taken(want, manner)
        except HotmendError as error:
            if self.only:
                raise
            why = str(error)
        try:
            update, ready = made_here(want, manner)
        except HotmendError as error:
            raise HotmendError(f"{error}; {self.updates.name}: {why}", error.hint) from error
        return update, replace(ready, origin=Origin(why=why))

    def _taken(self, want: Want, manner: Manner) -> tuple[Update, Prepared]:
        if self.closed:
            raise NotReadyMadeError(self.closed)
        mapped = {image.build_id for process in want.group.mapping for image in process.images}
        offer = self._offer(want, mapped)
        hotpatches = self.updates.ready(offer).prepared.hotpatches
        if not manner.build.partial and any(hotpatch.part for hotpatch in hotpatches):
            raise NotReadyMadeError(f"{offer.release} has a part of it alone, which --partial takes")
        old, new = _both(want)
        pairs, rest = pair_files(old.elf_files, new.elf_files), []
        for pair in pairs:
            if pair.state is FileState.CHANGED and not _is_brought(pair, hotpatches, offer) and _build(pair) in mapped:
                rest.append(pair)
        reports = _same_code(old, new, rest, manner) if rest else ()
        update = _update(old, new, hotpatches, reports)
        covered = {h.old_build_id: Coverage.PART if h.part else Coverage.WHOLE for h in hotpatches}
        origin = Origin(self.updates.name, offer.release, offer.key, offer.file)
        return update, Prepared(hotpatches, covered, needed_later(old.elf_files, new.elf_files), origin)

    def _offer(self, want: Want, mapped: set[BuildId]) -> Offer:
        """Return the newest that the channel has for a package's version and one of the builds that are mapped."""
        pending = want.pending
        found = [o for o in self.offers if (o.package, o.version) == (pending.package, pending.new_version)]
        found = [offer for offer in reversed(found) if offer.builds & mapped]
        if usable := [offer for offer in found if not offer.refused]:
            return usable[0]
        if found:
            raise NotReadyMadeError(f"{found[0].release} says that it takes a baseline: {found[0].refused}")
        if withdrawn := self.updates.withdrawn_with(pending.package, pending.new_version):
            raise NotReadyMadeError(f"its hotpatch, {withdrawn[0]}, is withdrawn: {withdrawn[1]}")
        raise NotReadyMadeError(f"it has no hotpatch to {pending.new_version} for what runs")


def ready_made(machine: Machine, channel: ChannelSource, *, only: bool) -> ReadyMade:
    """Open a channel where it is; one that cannot be used is told of with each package.

    Args:
        machine: which.
        channel: to open.
        only: nothing is made here.

    Raises:
        HotmendError: it cannot be used, and nothing is to be made here.
    """
    updates = ChannelUpdates(channel, machine.places, machine.clock(), disk=False, direct=True)
    try:
        return ReadyMade(updates, updates.offers(processes_mapping()), "", only)
    except HotmendError as error:
        if only:
            raise
        return ReadyMade(updates, (), str(error), only)


def _both(want: Want) -> tuple[Deb, Deb]:
    """Return the package as the processes have it, and as it waits."""
    pending = want.pending
    old = read_installed(pending.installed_name, want.files)
    if old.version != pending.old_version:
        raise InputError(f"{pending.package} {old.version} is installed, not {pending.old_version}", "run it again")
    return (old if want.group.earlier is None else read_earlier(old, want.group.earlier)), read_deb(want.file)


def _is_brought(pair: Pair, hotpatches: tuple[Hotpatch, ...], offer: Offer) -> bool:
    """Return whether one of the hotpatches is for a file; it must bring the very build that apt brings."""
    build = _build(pair)
    hotpatch = next((hotpatch for hotpatch in hotpatches if hotpatch.old_build_id == build), None)
    if hotpatch is None:
        return False
    if pair.new is None or content_build_id(pair.new.content) != hotpatch.new_build_id:
        raise NotReadyMadeError(f"{offer.release} brings another build of {pair.path} than apt does")
    return True


def _build(pair: Pair) -> BuildId | None:
    return content_build_id(pair.old.content) if pair.old is not None else None


def _same_code(old: Deb, new: Deb, pairs: list[Pair], manner: Manner) -> tuple[FileReport, ...]:
    """Compare files that the channel says nothing of, and that run: their code must be the same."""
    before = replace(old, elf_files=tuple(pair.old for pair in pairs if pair.old is not None))
    after = replace(new, elf_files=tuple(pair.new for pair in pairs if pair.new is not None))
    found = build_packages(before, after, manner.step, manner.build).files
    for report in found:
        if report.outcome is not None and report.outcome.verdict is not Verdict.NO_CHANGE:
            raise NotReadyMadeError(f"it says nothing of {report.path}, whose code changes too")
    return found


def _update(old: Deb, new: Deb, hotpatches: tuple[Hotpatch, ...], reports: tuple[FileReport, ...]) -> Update:
    """Return the update as a comparison here would have it."""
    files = tuple(FileReport(h.path, h.path, FileState.CHANGED, _outcome(h)) for h in hotpatches)
    cves = tuple(dict.fromkeys(cve for hotpatch in hotpatches for cve in hotpatch.cves))
    sides = [Side(f"{deb.package}={deb.version}", deb.package, deb.version, deb.file_bytes) for deb in (old, new)]
    return Update(sides[0], sides[1], (*files, *reports), cves, ())


def _outcome(hotpatch: Hotpatch) -> Outcome:
    builds = hotpatch.old_build_id, hotpatch.new_build_id
    return Outcome(
        hotpatch.name, hotpatch.path, *builds, hotpatch.verdict, hotpatch.reasons, hotpatch.statistics, hotpatch
    )
