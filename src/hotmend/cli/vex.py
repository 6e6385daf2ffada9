"""`hotmend vex`: for scanners: which CVEs are fixed in memory, whatever versions on the disk say."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from hotmend.cli.output import ExitCode, print_json, print_note
from hotmend.cli.report_shapes import VexShape
from hotmend.model.errors import HotmendError, InputError, UsageError


@click.command("vex")
@click.option(
    "--format",
    "form",
    type=click.Choice(["openvex", "cyclonedx"]),
    default="openvex",
    show_default=True,
    help="OpenVEX 0.2.0 or CycloneDX 1.6, both JSON.",
)
@click.option("--running", is_flag=True, help="Count only what runs now: libraries too that are old on the disk.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write there.")
@click.option("--json", "as_json", is_flag=True, help="One object per statement instead of the document.")
def vex_command(form: str, running: bool, output: Path | None, as_json: bool) -> int:
    """Say for scanners which CVEs are fixed in memory, in a form they read.

    It is about this machine at this moment: scanners compare versions of files, and a hotpatch changes none. What some
    process runs without the fix is said to be affected.
    """  # fmt: skip
    from hotmend.agent.census.assessment import take_assessment
    from hotmend.agent.report.vex import statements
    from hotmend.reference.vex import cyclonedx, openvex

    if os.geteuid() != 0:
        raise UsageError("only root can look at all processes", "run it as root")
    now = datetime.now(UTC)
    found = statements(take_assessment(now=now).processes, _installed, running=running)
    document = (openvex if form == "openvex" else cyclonedx)(found, now, _distribution())
    try:
        if output is not None:
            output.write_bytes(document)
    except OSError as error:
        raise HotmendError(f"{output}: {error.strerror or error}") from error
    if as_json:
        for each in found:
            since = each.since.isoformat(timespec="seconds")
            print_json(VexShape(each.cve, each.package, each.version, each.status.value, each.sentence, since))
    elif output is None:
        sys.stdout.write(document.decode())
    if not found:
        print_note("No CVE is fixed in memory.")
        return ExitCode.NOTHING_TO_DO
    return ExitCode.DONE


def _installed(package: str) -> str:
    """Return the version that is installed of a package; "" where it is not."""
    from hotmend.agent.apt.installed import dpkg_query

    try:
        return dpkg_query("--show", "--showformat=${Version}", package)
    except InputError:
        return ""


def _distribution() -> str:
    """Return the namespace of package URLs: `ID` of os-release."""
    import platform

    try:
        return platform.freedesktop_os_release().get("ID", "debian")
    except OSError:
        return "debian"
