"""`hotmend enroll`: this machine becomes one of a fleet."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import msgspec

from hotmend.cli.output import ExitCode, print_json, print_note
from hotmend.model.errors import UsageError

if TYPE_CHECKING:
    from hotmend.agent.paths import Places
    from hotmend.wire.messages import Host

KEY_VARIABLE = "HOTMEND_KEY"


class EnrolledShape(msgspec.Struct, frozen=True):
    """What became of it.

    Attributes:
        machine: id of this machine at its server.
        approved: whether it takes part.
        server_key: that is pinned.
        why: why it waits for approval.
    """

    machine: str
    approved: bool
    server_key: str
    why: str


@click.command("enroll")
@click.argument("url", required=False)
@click.option("--key", envvar=KEY_VARIABLE, default="", help=f"Registration key; better in {KEY_VARIABLE}.")
@click.option("--server-key", default="", metavar="HEX", help="The key that the server must have.")
@click.option("--name", default="", help="Of this machine there; its host name by default.")
@click.option("--ca", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="PEM file of authorities.")
@click.option("--again", is_flag=True, help="Enrolled already: with a new key.")
@click.option("--leave", "leaving", is_flag=True, help="Leave the server.")
@click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
def enroll_command(
    url: str | None,
    key: str,
    server_key: str,
    name: str,
    ca: Path | None,
    again: bool,
    leaving: bool,
    as_json: bool,
) -> int:
    """Make this machine one of the server at URL: it checks in from then on, and follows that server's policy.

    What it installs is verified by the channel's or the archive's signatures as before: a server signs none of it.
    """
    from hotmend.agent.owner import as_owner
    from hotmend.agent.uplink.carrying import check_in, enrol, leave, own_name

    places, machine_host, platform, boot = _this_machine()
    if leaving:
        told = leave(places)
        print_note("left" if told else "left; the server could not be told: remove the machine there")
        return ExitCode.DONE
    if url is None or not key:
        raise UsageError(
            "URL and a registration key are needed", f"{KEY_VARIABLE}=hmk_... hotmend enroll https://SERVER"
        )
    if places.server.exists() and not again:
        raise UsageError("this machine is enrolled already", "--again makes a new key; --leave leaves")
    authorities = str(ca.resolve()) if ca is not None else ""
    made = enrol(
        places,
        url,
        key,
        machine_host(),
        name=name or own_name(),
        server_key=server_key,
        ca=authorities,
        platform=platform,
    )
    with as_owner(places.uplink):  # the folder is theirs from now on, and what comes over the network is theirs to read
        check_in(places, boot=boot)
    shape = EnrolledShape(made.machine, made.approved, made.server_key, made.why)
    if as_json:
        print_json(shape)
        return ExitCode.DONE
    print_note(f"connected as {made.machine}; the server's key {made.server_key} is pinned")
    if not made.approved:
        print_note(f"it waits for approval: {made.why}")
    return ExitCode.DONE


_This = tuple["Places", Callable[[], "Host"], Literal["linux", "windows"], str | None]
"""Where a machine's files are, what tells it from its copies, what it is, and its boot where that is known."""


def _this_machine() -> _This:
    """Return this machine.

    Raises:
        UsageError: whoever asks does not administer it.
    """
    return _windows() if sys.platform == "win32" else _linux()


def _linux() -> _This:
    from hotmend.agent.paths import Places
    from hotmend.agent.uplink.host import this_host

    if sys.platform != "win32" and os.geteuid() != 0:
        raise UsageError("only root decides whose machine this is", "run it as root")
    places = Places()
    places.server.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    return places, this_host, "linux", None


def _windows() -> _This:
    from hotmend.agent.windows.host import boot_name, windows_host
    from hotmend.agent.windows.places import windows_places
    from hotmend.cli.windows import STATE_VARIABLE
    from hotmend.cli.windows_remedies import folder_of
    from hotmend.windows.cim import local_cim
    from hotmend.windows.registry import local_machine

    given = os.environ.get(STATE_VARIABLE)
    machine, places = local_machine(), windows_places(folder_of(Path(given) if given else None))
    machine.keep_private(places.root)
    return places, lambda: windows_host(machine, local_cim()), "windows", boot_name(machine)
