"""`hotmend upgrade`: the distribution's waiting updates, in memory first and then on disk."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from hotmend.cli.agent import this_machine
from hotmend.cli.audit_option import audit_option
from hotmend.cli.output import ExitCode, Steps, print_error, print_json, print_note, print_reasons, print_table
from hotmend.cli.report_shapes import need_shape
from hotmend.cli.shapes import reason_shapes
from hotmend.cli.upgrade_shapes import (
    OriginShape,
    StillOldShape,
    UpgradePackageShape,
    UpgradeProcessShape,
    UpgradeShape,
)
from hotmend.model.errors import UsageError
from hotmend.model.process_states import NEW_CODE
from hotmend.model.verdict import Severity, Verdict

if TYPE_CHECKING:
    from hotmend.agent.census.restarts import Need
    from hotmend.agent.configuration import ChannelSource
    from hotmend.agent.machine import Machine
    from hotmend.agent.memory import PackageResult
    from hotmend.agent.upgrade import Upgrade


@click.command("upgrade")
@click.argument("packages", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Also updates that are not security updates.")
@click.option("--partial", is_flag=True, help="Where an image is refused, take the largest part of it that is safe.")
@click.option("--memory-only", is_flag=True, help="Leave the disk as it is.")
@click.option("--dry-run", is_flag=True, help="Fetch, compare and check; change no process and no file.")
@click.option(
    "--channel",
    nargs=2,
    metavar="SOURCE NAME",
    help="Take hotpatches from this channel; by default from that of agent.toml, if one is configured there.",
)
@click.option("--tier", type=click.Choice(["canary", "stable"]), help="Of --channel.  [default: stable]")
@click.option("--channel-only", is_flag=True, help="Make no hotpatch here: what the channel has none for stays old.")
@click.option("--no-channel", is_flag=True, help="Make all hotpatches here.")
@audit_option
@click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
def upgrade_command(
    packages: tuple[str, ...],
    every: bool,
    partial: bool,
    memory_only: bool,
    dry_run: bool,
    channel: tuple[str, str] | None,
    tier: Literal["canary", "stable"] | None,
    channel_only: bool,
    no_channel: bool,
    audit: Path,
    as_json: bool,
) -> int:
    """Bring in the security updates that apt has waiting, or PACKAGES: in memory first, then on disk.

    Hotpatches come from a signed channel where there is one that has them; the others are made on the spot, from the
    installed files and the updates. Services that run the new code
    afterwards are not restarted by their packages. What still runs old code is named, with the restarts it needs.
    """
    from hotmend.agent.apt.pending import pending_updates
    from hotmend.agent.census.assessment import take_assessment
    from hotmend.agent.census.never import Never
    from hotmend.agent.census.restarts import plan_of
    from hotmend.agent.journal import Journal
    from hotmend.agent.machine import alone
    from hotmend.agent.memory import Manner, QuarantinedError, made_here
    from hotmend.agent.ready_made import ready_made
    from hotmend.agent.record.hold import read_hold
    from hotmend.agent.recovery import recover
    from hotmend.agent.upgrade import Wish, unless_kept_away, upgrade
    from hotmend.diff.options import Options as BuildOptions
    from hotmend.live.driver import Options as ApplyOptions

    machine = this_machine(audit)
    source = _channel(machine, channel, tier, only=channel_only, none=no_channel)
    if (hold := read_hold(machine.places.hold, machine.clock())) is not None and not dry_run:
        print_error(str(hold), "hotmend hold --release ends it", as_json=as_json)
        return ExitCode.REFUSED
    pending = pending_updates(packages, every=every)
    if not pending:
        print_note("apt has no such updates waiting: there is nothing to do.")
        return ExitCode.NOTHING_TO_DO
    manner = Manner(
        BuildOptions(frozenset(), exact=False, partial=partial),
        ApplyOptions(dry_run=dry_run, audit=str(audit)),
        spared=machine.manner().spared,
    )
    with contextlib.ExitStack() as stack:
        if not dry_run:
            stack.enter_context(alone(machine.places))
            recover(machine)
            try:
                manner = replace(manner, kept_away=unless_kept_away(machine, pending, disk=not memory_only))
            except QuarantinedError as error:
                print_error(str(error), error.hint, as_json=as_json)
                return ExitCode.REFUSED
        steps = stack.enter_context(Steps(threaded=False))
        making = made_here if source is None else ready_made(machine, source, only=channel_only)
        journal = Journal(None if dry_run else machine, "upgrade")
        done = upgrade(pending, Wish(manner, disk=not memory_only, making=making), steps, journal)
    assessment = take_assessment()
    plan = plan_of(assessment, Never(*machine.configuration.never))
    shape = _shape(done, (*plan.restarts, *plan.others), assessment.reboot, dry_run=dry_run)
    if as_json:
        print_json(shape)
    else:
        _print(shape)
    if done.disk_error:
        return ExitCode.FAILED
    left = shape.earlier or done.still_old or any(package.error for package in done.packages)
    return ExitCode.REFUSED if left else ExitCode.DONE


def _channel(
    machine: Machine,
    given: tuple[str, str] | None,
    tier: Literal["canary", "stable"] | None,
    *,
    only: bool,
    none: bool,
) -> ChannelSource | None:
    """Return the channel to ask: the one given, or the agent's; None for none.

    Raises:
        UsageError: the options contradict each other.
    """
    from hotmend.agent.configuration import ChannelSource

    if none and (given or only):
        raise UsageError("--no-channel speaks against --channel and --channel-only", "give one of them")
    if tier and given is None:
        raise UsageError("--tier is of the channel that --channel names", "agent.toml has the tier of its own channel")
    source = machine.configuration.channel if given is None else ChannelSource(*given, tier or "stable")
    if only and source is None:
        raise UsageError("no channel is configured", "--channel SOURCE NAME")
    return None if none else source


def _shape(done: Upgrade, needs: Sequence[Need], reboot: Sequence[str], *, dry_run: bool) -> UpgradeShape:
    """Return what is printed: what the run did, and what else the machine's processes and its kernel need."""
    told = {old.pid for old in done.still_old}
    return UpgradeShape(
        packages=tuple(_package(package, done.disk) for package in done.packages),
        held=done.held,
        restarts=done.restarts,
        earlier=tuple(need_shape(need) for need in needs if not {old.pid for old in need.processes} <= told),
        reboot=(*done.reboot, *reboot),
        disk_error=done.disk_error,
        dry_run=dry_run,
    )


def _package(result: PackageResult, disk: str) -> UpgradePackageShape:
    pending, update = result.pending, result.update
    outcomes = [o for o in update.outcomes if o.verdict is not Verdict.NO_CHANGE] if update is not None else []
    reasons = tuple(dict.fromkeys(r for o in outcomes if o.verdict is Verdict.BASELINE_REQUIRED for r in o.reasons))
    return UpgradePackageShape(
        package=pending.package,
        old_version=pending.old_version,
        new_version=pending.new_version,
        security=pending.security,
        memory=result.memory.value,
        disk=disk,
        error=result.error,
        cves=update.cves if update is not None else (),
        hotpatches=tuple(OriginShape(o.channel, o.release, o.why) for o in result.origins if o.channel or o.why),
        reasons=reason_shapes(tuple(r for r in reasons if r.severity is Severity.REFUSAL)),
        processes=tuple(
            UpgradeProcessShape(r.pid, r.comm, r.state, r.pause_us, reason_shapes(r.reasons)) for r in result.results
        ),
        still_old=tuple(StillOldShape(o.pid, o.comm, o.unit, o.images, o.part) for o in result.still_old),
        needed_later=result.needed_later,
    )


def _print(shape: UpgradeShape) -> None:
    from hotmend.agent.apt.later import needed_text

    rows = [
        (p.package, p.old_version or "new", p.new_version, p.memory, _processes(p), p.disk, ", ".join(p.cves))
        for p in shape.packages
    ]
    print_table("", ("package", "from", "to", "in memory", "processes", "on disk", "CVE ids in its changelog"), rows)
    for package in shape.packages:
        refused = [r for process in package.processes if process.state == "refused" for r in process.reasons]
        if package.error or package.reasons or refused or package.hotpatches or package.needed_later:
            click.echo(f"\n{package.package}")
        if package.error:
            click.echo(f"  {package.error}")
        for origin in package.hotpatches:
            came = f"made here; the channel: {origin.why}" if origin.why else f"{origin.release} of {origin.channel}"
            click.echo(f"  hotpatch: {came}")
        if package.needed_later:
            click.echo(f"  its services are not held back: {needed_text(package.needed_later)}")
        print_reasons(dict.fromkeys((*package.reasons, *refused)))
    old = [(o, package.package) for package in shape.packages for o in package.still_old]
    if old:
        click.echo("\nStill with old code:")
        told = [
            (o.pid, o.comm, o.unit or "-", name, "a part" if o.part else "all", ", ".join(o.images)) for o, name in old
        ]
        print_table("", ("#pid", "command", "unit", "package", "old", "images"), told)
    if shape.earlier:
        click.echo("\nStill with old code of other updates:")
        told_earlier = [(n.name, n.how, n.reason or "-", len(n.processes)) for n in shape.earlier]
        print_table("", ("what", "takes", "because", "#processes"), told_earlier)
    click.echo()
    _print_what_is_due(shape, old=bool(old or shape.earlier))


def _processes(package: UpgradePackageShape) -> str:
    done = sum(process.state in NEW_CODE for process in package.processes)
    whole = len({p.pid for p in package.processes} | {o.pid for o in package.still_old})
    return f"{done} of {whole}" if whole else ""


def _print_what_is_due(shape: UpgradeShape, *, old: bool) -> None:
    if shape.held:
        click.echo(f"Not restarted, because the new code runs: {', '.join(shape.held)}")
    units = dict.fromkeys((*shape.restarts, *(need.name for need in shape.earlier if need.how == "restart")))
    if units:
        click.echo(f"Restarts due: {', '.join(units)}")
    elif old:
        click.echo("Restarts due: the processes above, which no service manager keeps")
    if shape.reboot:
        click.echo(f"Reboot due: {', '.join(shape.reboot)}")
    if shape.disk_error:
        click.echo(f"The disk was not brought up to date: {shape.disk_error}")
    elif shape.dry_run:
        click.echo("A dry run: no process and no file was changed.")
    elif not (old or shape.reboot):
        click.echo("No restart is due.")
