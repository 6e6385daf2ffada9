"""`hotmend apt-hook`: apt itself changes memory first, and leaves alone what runs the new code then."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hotmend.cli.audit_option import audit_option
from hotmend.cli.output import ExitCode, print_json
from hotmend.cli.upgrade_shapes import AptHookShape
from hotmend.model.errors import HotmendError, UsageError
from hotmend.model.process_states import NEW_CODE
from hotmend.model.verdict import Severity, Verdict

if TYPE_CHECKING:
    from hotmend.agent.apt.held import Holder
    from hotmend.agent.apt.run import Before
    from hotmend.agent.memory import PackageResult

HOOK_VARIABLE = "HOTMEND_APT_HOOK"
"""Environment variable: `off` has the hook do nothing for one call of apt."""

DEADLINE_SECONDS = 300
_NAMED_MAX = 10
_GRACE_SECONDS = 20
"""How long after its deadline a hook may take to come to an end by itself."""

json_option = click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
deadline_option = click.option(
    "--deadline",
    type=click.IntRange(1, 86400),
    default=DEADLINE_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long apt waits for it at most.",
)


@click.group("apt-hook")
def apt_hook_command() -> None:
    """Have every run of apt change memory first, and hold back restarts that are not needed any more."""


@apt_hook_command.command("on")
@deadline_option
@json_option
def on_command(deadline: int, as_json: bool) -> int:
    """Have apt call hotmend from now on, and needrestart ask it."""
    from hotmend.agent.apt.hook import Hook, find_command, switch_on

    _check_root()
    switch_on(Hook(find_command(), deadline))
    return _report(as_json=as_json)


@apt_hook_command.command("off")
@json_option
def off_command(as_json: bool) -> int:
    """Have apt and needrestart work as if hotmend were not there."""
    from hotmend.agent.apt.held import put_back
    from hotmend.agent.apt.hook import switch_off

    _check_root()
    was_on = switch_off()
    put_back()
    code = _report(as_json=as_json)
    return code if was_on else ExitCode.NOTHING_TO_DO


@apt_hook_command.command("status")
@json_option
def status_command(as_json: bool) -> int:
    """Tell whether apt calls hotmend, and what is held back at this moment."""
    return _report(as_json=as_json)


@apt_hook_command.command("before")
@deadline_option
@audit_option
def before_command(deadline: int, audit: Path) -> int:
    """Change memory for what apt is about to install (for apt: what that is comes on stdin)."""
    from hotmend.agent.apt.protocol import INPUT_BYTES_MAX

    said = sys.stdin.buffer.read(INPUT_BYTES_MAX + 1).decode("utf-8", "surrogateescape")
    if _is_off():
        return ExitCode.DONE
    from hotmend.agent.apt.run import find_holder

    holder = find_holder()  # from here: apt is no relation of a child of ours
    until = time.monotonic() + deadline
    _within(deadline + _GRACE_SECONDS, lambda: _before(said, holder, until, audit))
    return ExitCode.DONE


@apt_hook_command.command("after")
@deadline_option
def after_command(deadline: int) -> int:
    """Hold nothing back any longer, and name what still runs old code (for apt)."""
    if not _is_off():
        from hotmend.agent.apt.run import find_holder

        holder = find_holder()
        _within(deadline, lambda: _after(holder))
    return ExitCode.DONE


@apt_hook_command.command("fixed")
def fixed_command() -> int:
    """Print the units that run old files with the code of the new ones (for needrestart), one on a line."""
    from hotmend.agent.apt.run import units_fixed
    from hotmend.agent.paths import Places

    for unit in units_fixed(Places()):
        click.echo(unit)
    return ExitCode.DONE


# --- for the administrator --------------------------------------------------------------------------------


def _check_root() -> None:
    if os.geteuid() != 0:
        raise UsageError("only root can change how apt works", "run it as root")


def _report(*, as_json: bool) -> ExitCode:
    from hotmend.agent.apt.held import held_restarts
    from hotmend.agent.apt.hook import NEEDRESTART_FILE, read_hook

    hook, held = read_hook(), held_restarts()
    shape = AptHookShape(
        on=hook is not None,
        command=hook.command if hook else "",
        deadline=hook.deadline_seconds if hook else 0,
        needrestart=(Path("/") / NEEDRESTART_FILE).exists(),
        held=held.services if held and held.holder.lives else (),
    )
    if as_json:
        print_json(shape)
        return ExitCode.DONE
    click.echo(
        f"apt calls {shape.command}, for {shape.deadline} s at most" if shape.on else "apt does not call hotmend"
    )
    click.echo(f"needrestart {'asks' if shape.needrestart else 'does not ask'} it what is fixed in memory")
    if shape.held:
        click.echo(f"held back at this moment: {', '.join(shape.held)}")
    return ExitCode.DONE


# --- for apt ----------------------------------------------------------------------------------------------


def _is_off() -> bool:
    return os.environ.get(HOOK_VARIABLE) == "off"


def _within(seconds: float, work: Callable[[], None]) -> None:
    """Do work in a child, and end that when its time is over: whatever happens to it, apt goes on."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        try:
            work()
        except HotmendError as error:
            _say(f"{error}; packages restart their services as ever")
        except Exception as error:  # noqa: BLE001 - nothing of ours may keep apt from its work
            _say(f"unexpected {type(error).__name__}: {error}; packages restart their services as ever")
        finally:
            sys.stderr.flush()
            os._exit(0)
    limit = time.monotonic() + seconds
    try:
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if time.monotonic() > limit:
                _say(f"not done within {seconds:.0f} s; packages restart their services as ever")
                _end(child)
                return
            time.sleep(0.02)
    except KeyboardInterrupt:
        _say("interrupted; packages restart their services as ever")
        _end(child)


def _end(child: int) -> None:
    """End the child and all that it has started; a process that is being changed then is all old or all new."""
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _say(text: str) -> None:
    click.echo(f"hotmend: {text}", err=True)


def _before(said: str, holder: Holder | None, until: float, audit: Path) -> None:
    from hotmend.agent.apt.protocol import parse_upgrades
    from hotmend.agent.apt.run import before_dpkg
    from hotmend.agent.configuration import read_configuration
    from hotmend.agent.journal import Journal
    from hotmend.agent.machine import Machine, alone
    from hotmend.agent.paths import Places
    from hotmend.agent.record.history import History
    from hotmend.agent.record.hold import read_hold
    from hotmend.agent.record.quarantine import packages_meant, read_quarantine
    from hotmend.agent.recovery import recover

    places = Places()
    upgrades = parse_upgrades(said)
    if not upgrades:
        return
    if (hold := read_hold(places.hold, datetime.now(UTC))) is not None:
        _say(f"{hold}; packages restart their services as ever")
        return
    machine = Machine(places, read_configuration(places.configuration), History(places.history), audit=audit)
    with alone(places):
        recover(machine, in_apt=True)
        entries = read_quarantine(places.quarantine)
        forbidden = packages_meant(entries, machine.history.read().events if entries else ())
        manner = replace(machine.manner(), until=until, kept_away=frozenset(entry.update for entry in entries))
        for one in upgrades:
            if str(one.pending) in forbidden:
                _say(f"{one.pending} is in quarantine: no process gets it")
        _say_before(before_dpkg(upgrades, holder, manner, places, Journal(machine, "apt"), forbidden))


def _say_before(done: Before) -> None:
    for package in done.packages:
        pending = package.pending
        _say(f"{pending.package} {pending.old_version} -> {pending.new_version}: {_outcome(package)}")
    if done.held:
        _say(f"not restarted by their packages, because the new code runs: {', '.join(done.held)}")
    if done.not_held:
        _say(f"packages restart their services all the same: {done.not_held}")


def _outcome(package: PackageResult) -> str:
    """Say in one line what became of the processes, and why some are not changed."""
    done = sum(result.state in NEW_CODE for result in package.results)
    whole = len({r.pid for r in package.results} | {old.pid for old in package.still_old})
    text = f"{package.memory.value} in memory" if whole else package.memory.value
    text += f", {done} of {whole} processes" if whole else ""
    refused = [o for update in package.updates for o in update.outcomes if o.verdict is Verdict.BASELINE_REQUIRED]
    reasons = {r.code: None for o in refused for r in o.reasons if r.severity is Severity.REFUSAL}
    reasons |= {r.code: None for result in package.results if result.state == "refused" for r in result.reasons}
    why = package.error or ", ".join(reasons)
    if package.needed_later:
        from hotmend.agent.apt.later import needed_text

        why = f"restarted all the same, {needed_text(package.needed_later)}"
    return f"{text}: {why}" if why else text


def _after(holder: Holder | None) -> None:
    from hotmend.agent.apt.run import after_dpkg
    from hotmend.agent.census.assessment import owner_text
    from hotmend.agent.paths import Places

    due = after_dpkg(holder, Places())
    if units := [one.owner.unit for one in due if one.owner.unit]:
        _say(f"old code runs until these are restarted: {', '.join(units)}")
    if others := [owner_text(one.owner, one.processes[:_NAMED_MAX]) for one in due if not one.owner.unit]:
        _say(f"old code runs besides in {', '.join(others)}")
