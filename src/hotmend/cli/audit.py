"""`hotmend audit`: who changed which process, and whether the record of it holds together."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from hotmend.cli.audit_option import AUDIT_VARIABLE
from hotmend.cli.output import ExitCode, print_json, print_note, print_table
from hotmend.cli.shapes import AuditCheckShape, AuditedImageShape, AuditShape
from hotmend.live.audit import read_audit
from hotmend.live.chain import DEFAULT_FILE, AuditRecord, Checked


@click.command("audit")
@click.argument(
    "file", type=click.Path(path_type=Path, dir_okay=False), default=DEFAULT_FILE, envvar=AUDIT_VARIABLE, required=False
)
@click.option("--check", "only_check", is_flag=True, help="Only say whether the chain holds, and its last hash.")
@click.option("--json", "as_json", is_flag=True, help="One object per line of the record, then one of the check.")
def audit_command(file: Path, only_check: bool, as_json: bool) -> int:
    """Show who changed which process, and check that nothing was altered since.

    FILE is the record that apply, revert and repair wrote; without it the usual place. Exit code 1 where the chain is
    broken.
    """
    checked = read_audit(file)
    if as_json:
        for record in () if only_check else checked.records:
            print_json(_shape(record))
        print_json(_check_shape(file, checked))
    else:
        if not only_check:
            _print(checked)
        _print_check(file, checked)
    return ExitCode.FAILED if checked.error else ExitCode.DONE


def _shape(record: AuditRecord) -> AuditShape:
    fields = msgspec.structs.asdict(record) | {"images": tuple(AuditedImageShape(*image) for image in record.images)}
    return AuditShape(**fields)


def _check_shape(file: Path, checked: Checked) -> AuditCheckShape:
    return AuditCheckShape(
        file=str(file),
        sound=not checked.error,
        lines=len(checked.records),
        head=checked.head,
        torn_bytes=checked.torn,
        unfinished=tuple(record.number for record in checked.unfinished),
        error=checked.error,
    )


def _print(checked: Checked) -> None:
    rows = (
        (r.number, r.at[:19], _who(r), r.deed or r.phase, r.pid, r.command_line[:40], r.state, r.outcome or "begins")
        for r in checked.records
    )
    print_table("", ("#line", "UTC", "who", "deed", "#pid", "process", "state", "outcome"), rows)


def _who(record: AuditRecord) -> str:
    if record.phase == "torn":
        return "-"
    return f"uid {record.uid}" if record.login_uid is None else f"uid {record.uid} (login {record.login_uid})"


def _print_check(file: Path, checked: Checked) -> None:
    for record in checked.unfinished:
        print_note(
            f"line {record.number}: {record.deed} of process {record.pid} has no outcome: the patcher is still at work "
            "or died; hotmend repair"
        )
    if checked.torn:
        print_note(f"the last {checked.torn} bytes are a line that a crash cut off; the next record will note it")
    if checked.error:
        click.echo(f"{file}: BROKEN: {checked.error}")
    else:
        click.echo(f"{file}: {len(checked.records)} lines hold together; the last hash is {checked.head}")
