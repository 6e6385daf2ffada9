"""`hotmend fleet evidence`: signed evidence of a fleet's compliance: made over the API, checked without a server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import msgspec

from hotmend.cli.output import ExitCode, print_error, print_note
from hotmend.fleet.compliance import Compliance
from hotmend.model.errors import HotmendError


@click.group("evidence")
def evidence_group() -> None:
    """Signed evidence: what a server knew of its machines at a moment. It has no expiry."""


@evidence_group.command("make")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--tag", "tags", multiple=True, metavar="NAME[=VALUE]", help="Machines with all of these.")
@click.option("--release", default="", help="Of this operating system, exactly.")
@click.option("--search", default="", help="With this in their names.")
@click.pass_context
def make_command(ctx: click.Context, file: Path, tags: tuple[str, ...], release: str, search: str) -> int:
    """Write evidence into FILE, which must not be there yet."""
    from hotmend.cli.fleet import client_of

    compliance = Compliance(client_of(ctx))
    envelope = msgspec.json.encode(compliance.evidence(tags, release, search))
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), "wb") as stream:
            stream.write(envelope)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise HotmendError(f"{file}: {error.strerror or error}") from error
    print_note(f"{file}; the server names its evidence key {compliance.evidence_key()}: keep it elsewhere, too")
    return ExitCode.DONE


@evidence_group.command("key")
@click.pass_context
def key_command(ctx: click.Context) -> int:
    """Print the key that evidence is checked with. Keep it where the server cannot change it."""
    from hotmend.cli.fleet import client_of

    click.echo(Compliance(client_of(ctx)).evidence_key())
    return ExitCode.DONE


@evidence_group.command("verify")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--key", required=True, help="The server's evidence key, from a source that you trust.")
@click.pass_context
def verify_command(ctx: click.Context, file: Path, key: str) -> int:
    """Check FILE without a server, and say what it holds. Exit code 4: it is not what that server signed."""
    from hotmend.wire.evidence import BYTES_MAX, verified

    as_json = bool(ctx.obj[3])
    try:
        with file.open("rb") as stream:
            data = stream.read(BYTES_MAX + 1)
    except OSError as error:
        raise HotmendError(f"{file}: {error.strerror or error}") from error
    found = verified(data, key.strip().lower())
    if found is None:
        told = f"{file} is not signed with this key, or was changed since"
        print_error(told, "is it the key of the server that made it?", as_json=as_json)
        return ExitCode.REFUSED
    if as_json:
        click.echo(msgspec.json.encode(found))
        return ExitCode.DONE
    exposed = [each for each in found.machines if any(place.fixed in ("on-disk", "nowhere") for place in each.findings)]
    shown: dict[str, Any] = {
        "signed by": f"{found.server}, key {key.strip().lower()}",
        "made": f"{found.made_at:%Y-%m-%d %H:%M:%S} UTC by {found.made_by}",
        "about": f"{len(found.machines)} machines ({found.query or 'all'})",
        "with old code": len(exposed),
        "silent": sum(each.silent for each in found.machines),
        "exposures": f"{len(found.exposures)}, open: {sum(each.closed_at is None for each in found.exposures)}",
        "audit record": f"{found.audit_rows} rows, last hash {found.audit_head}",
    }
    for name, value in shown.items():
        click.echo(f"{name}: {value}")
    return ExitCode.DONE
