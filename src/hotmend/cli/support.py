"""`hotmend support`: a redacted bundle for whoever is to help."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import click

from hotmend.cli.audit_option import audit_option
from hotmend.cli.output import ExitCode, print_json, print_note
from hotmend.cli.report_shapes import SupportShape
from hotmend.model.errors import HotmendError, UsageError


@click.command("support")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Where to.")
@audit_option
@click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
def support_command(output: Path | None, audit: Path, as_json: bool) -> int:
    """Put together what somebody needs who is to help: versions, what this machine allows, memory, records, settings.

    Command lines, output of commands, words of the configuration and credentials are left out; names of machines and
    people, and addresses, become stand-ins. Nothing is sent anywhere: the file is for you to read, and to send.
    """
    from hotmend.agent.paths import Places
    from hotmend.agent.report.support import make_bundle

    if os.geteuid() != 0:
        raise UsageError("only root can read all of this", "run it as root")
    now = datetime.now(UTC)
    file = output or Path(f"hotmend-support-{now:%Y%m%dT%H%M%SZ}.tar.zst")
    content = make_bundle(Places(), audit, now)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, 0o600)
            stream.write(content)
    except OSError as error:
        raise HotmendError(f"{file}: {error.strerror or error}") from error
    if as_json:
        print_json(SupportShape(str(file), len(content)))
    else:
        print_note(f"{file}: {len(content)} bytes; tar --zstd -xOf {file} | less")
    return ExitCode.DONE
