"""`hotmend fleet webhooks`, `hotmend fleet audit` and the like: who is told what, and what was done."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Final

import click
import msgspec

from hotmend.cli.fleet_output import as_json, print_rows, when
from hotmend.cli.output import ExitCode, print_error, print_note
from hotmend.model.errors import UsageError

if TYPE_CHECKING:
    from hotmend.fleet.webhooks import Audit, Webhooks
    from hotmend.wire.webhooks import Webhook

_HASH: Final = re.compile("[0-9a-f]{64}")


def _webhooks_of(ctx: click.Context) -> Webhooks:
    from hotmend.cli.fleet import client_of
    from hotmend.fleet.webhooks import Webhooks

    return Webhooks(client_of(ctx))


def _audit_of(ctx: click.Context) -> Audit:
    from hotmend.cli.fleet import client_of
    from hotmend.fleet.webhooks import Audit

    return Audit(client_of(ctx))


@click.command("webhooks")
@click.pass_context
def webhooks_command(ctx: click.Context) -> int:
    """List webhooks, and what came of telling each last."""
    _print(ctx, list(_webhooks_of(ctx).all()))
    return ExitCode.DONE


@click.command("webhook-add")
@click.argument("url")
@click.option(
    "--about", multiple=True, type=click.Choice(["rollouts", "windows"]), help="Of these alone; of all by default."
)
@click.pass_context
def webhook_add_command(ctx: click.Context, url: str, about: tuple[str, ...]) -> int:
    """Have what happens told to URL. The secret that signs it is shown once."""
    from hotmend.wire.webhooks import Subject

    subjects = msgspec.convert(about or ("rollouts", "windows"), list[Subject])
    made = _webhooks_of(ctx).add(url, subjects)
    _print(ctx, [made])
    if not as_json(ctx):
        click.echo(f"secret: {made.secret}")
    return ExitCode.DONE


@click.command("webhook-remove")
@click.argument("identity", metavar="ID")
@click.pass_context
def webhook_remove_command(ctx: click.Context, identity: str) -> int:
    """Remove a webhook, and what waits for it."""
    _webhooks_of(ctx).remove(identity)
    print_note("removed")
    return ExitCode.DONE


@click.command("webhook-test")
@click.argument("identity", metavar="ID")
@click.pass_context
def webhook_test_command(ctx: click.Context, identity: str) -> int:
    """Have a webhook told an event `test`; `webhook-deliveries` shows what came of it."""
    _print(ctx, [_webhooks_of(ctx).test(identity)])
    return ExitCode.DONE


@click.command("webhook-deliveries")
@click.argument("identity", metavar="ID")
@click.pass_context
def webhook_deliveries_command(ctx: click.Context, identity: str) -> int:
    """List the last requests to a webhook, newest first."""
    print_rows(
        _webhooks_of(ctx).deliveries(identity),
        ctx,
        "",
        ("at", "#events", "taken", "outcome"),
        lambda d: (when(d.at), d.events, "yes" if d.taken else "no", d.outcome),
    )
    return ExitCode.DONE


def _print(ctx: click.Context, found: list[Webhook]) -> None:
    print_rows(
        found,
        ctx,
        "",
        ("id", "url", "about", "by", "#waiting", "#failures", "last"),
        lambda w: (w.id, w.url, ", ".join(w.about), w.created_by, w.waiting, w.failures, w.last),
    )


@click.command("audit")
@click.option("--subject", default="", help="What it was done to, exactly.")
@click.option("--action", default="", help="What was done, exactly: halt.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="So many of the newest.")
@click.pass_context
def audit_command(ctx: click.Context, subject: str, action: str, limit: int) -> int:
    """List what was done by whom, newest first."""
    print_rows(
        islice(_audit_of(ctx).rows(subject, action, min(limit, 1000)), limit),
        ctx,
        "",
        ("#number", "at", "who", "action", "subject", "detail"),
        lambda r: (r.number, when(r.at), r.actor, r.action, r.subject, msgspec.json.encode(r.detail).decode()),
    )
    return ExitCode.DONE


@click.command("audit-verify")
@click.option("--head", default="", help="Hash of a row that was kept elsewhere: it must be in the record still.")
@click.pass_context
def audit_verify_command(ctx: click.Context, head: str) -> int:
    """Have the server read its whole record. Exit code 4: it is not as it was written."""
    kept = head.strip().lower()
    if kept and not _HASH.fullmatch(kept):  # a slip in it is nobody's deed
        raise UsageError(f"not a hash of the record: {head}", "64 hexadecimal digits, as `audit-verify` prints them")
    audit = _audit_of(ctx)
    found = audit.verify()
    if as_json(ctx):
        click.echo(msgspec.json.encode(found))
    else:
        click.echo(f"{found.rows} rows; the last hash is {found.head}: keep it somewhere else")
    wrong = found.wrong
    if not wrong and kept and all(row.hash != kept for row in audit.rows()):
        wrong = "the row that was kept elsewhere is not in it: the record was written anew"
    if wrong:
        print_error(wrong, "somebody has written to the server's database", as_json=False)
        return ExitCode.REFUSED
    return ExitCode.DONE


@click.command("audit-accept")
@click.pass_context
def audit_accept_command(ctx: click.Context) -> int:
    """Say that what was found wrong with the record is over. Exit code 4: it is still not as it was written."""
    found = _audit_of(ctx).accept()
    if as_json(ctx):
        click.echo(msgspec.json.encode(found))
    else:
        print_note(f"{found.rows} rows follow from each other; the last hash is {found.head}")
    return ExitCode.DONE


RECORDS: Final = (
    webhooks_command,
    webhook_add_command,
    webhook_remove_command,
    webhook_test_command,
    webhook_deliveries_command,
    audit_command,
    audit_verify_command,
    audit_accept_command,
)
"""All of them."""
