"""`hotmend channel`: a signed repository of releases; the commands of its publisher and its signers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, Final, ParamSpec, cast

import click

from hotmend.cli.channel_client import fetch_command
from hotmend.cli.channel_text import (
    archive_print,
    changes_print,
    expiry_shape,
    key_print,
    pending_print,
    published_print,
    refused_print,
    request_shape,
    roles_print,
    signed_print,
    status_print,
    tier_shape,
)
from hotmend.cli.output import ExitCode
from hotmend.cli.publish_shapes import ChannelStatusShape, RequestChangeShape, RoleShape, SignedShape
from hotmend.model.errors import HotmendError, InputError, UsageError
from hotmend.package.bundle import BUNDLE_FILE_BYTES_MAX
from hotmend.package.files import write_file
from hotmend.repository import layout, metadata, requests
from hotmend.repository.airgap import airgap_write
from hotmend.repository.documents import release_decode
from hotmend.repository.issues import known_issue
from hotmend.repository.keys import Secret, key_generate, public_key_load, public_pem, signer_load
from hotmend.repository.layout import DOCUMENT_BYTES_MAX, Tier
from hotmend.repository.making import About, hotpatch_release
from hotmend.repository.metadata import KeySet
from hotmend.repository.publish import Founding, Publisher
from hotmend.repository.refusal import Refusal
from hotmend.repository.releases import Classification, HotpatchRelease, Urgency
from hotmend.repository.store import Store
from hotmend.servicing.known_issues import ISSUES_BYTES_MAX

P = ParamSpec("P")
_NOTES_BYTES_MAX: Final = 100_000
_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)

json_option = click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
repository_argument = click.argument("repository", type=_FOLDER)
secret_option = click.option(
    "--secret",
    "secret_file",
    type=_FILE,
    envvar="HOTMEND_SECRET",
    metavar="FILE",
    help="A file with the passphrase or PIN of the keys; asked for on a terminal otherwise.",
)


def refusable(command: Callable[P, int]) -> Callable[P, int]:
    """Print a refusal and make it an exit code."""

    @wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return command(*args, **kwargs)
        except Refusal as refusal:
            refused_print((refusal.reason,), as_json=bool(kwargs.get("as_json")))
            return ExitCode.REFUSED

    return wrapper


@click.group("channel")
def channel_command() -> None:
    """Publish releases in a signed repository, sign what is kept for offline keys, and fetch as a machine does."""


channel_command.add_command(fetch_command)


@channel_command.command("key")
@click.argument("file", type=_FILE)
@click.option("--of", "reference", metavar="KEY", help="Write the public half of a key that exists, as FILE.")
@secret_option
@json_option
def key_command(file: Path, reference: str | None, secret_file: Path | None, as_json: bool) -> int:
    """Make a key: FILE for its owner alone, FILE.pub for everybody."""
    if reference is None:
        passphrase = _secret_read(secret_file) if secret_file is not None else ""
        key, public = key_generate(file, passphrase), Path(f"{file}.pub")
    else:
        key, public = signer_load(reference, _secrets(secret_file)).public_key, file
        write_file(public, public_pem(key))
    key_print(key.keyid, key.scheme, public, as_json=as_json)
    return ExitCode.DONE


@channel_command.command("init")
@repository_argument
@click.argument("channel")
@click.option("--root-key", "root", type=_FILE, multiple=True, metavar="PUB", help="Public key for the root.")
@click.option("--root-threshold", type=int, default=2, show_default=True, help="How many have to sign a root.")
@click.option("--targets-key", "targets", type=_FILE, multiple=True, metavar="PUB", help="Key that delegates channels.")
@click.option("--targets-threshold", type=int, default=2, show_default=True)
@click.option("--stable-key", "stable", type=_FILE, multiple=True, required=True, metavar="PUB", help="Key for stable.")
@click.option("--stable-threshold", type=int, default=2, show_default=True)
@click.option("--online-key", "online", multiple=True, metavar="KEY", help="Key for snapshot and timestamp.")
@click.option("--canary-key", "canary", multiple=True, required=True, metavar="KEY", help="Key for the canary tier.")
@secret_option
@json_option
@refusable
def init_command(
    repository: Path,
    channel: str,
    root: tuple[Path, ...],
    root_threshold: int,
    targets: tuple[Path, ...],
    targets_threshold: int,
    stable: tuple[Path, ...],
    stable_threshold: int,
    online: tuple[str, ...],
    canary: tuple[str, ...],
    secret_file: Path | None,
    as_json: bool,
) -> int:
    """Ask for a new repository with one CHANNEL, or for one more CHANNEL in it.

    A PUB is the public half of an offline key. A KEY is one that this host signs with: a PEM file, or
    hsm:ID?label=TOKEN.
    """
    founding = Founding(
        _key_set(root, root_threshold),
        _key_set(targets or root, targets_threshold),
        _key_set(stable, stable_threshold),
        _absolute(online),
        _absolute(canary),
    )
    pending = publisher_open(repository, secret_file).init(channel, founding)
    published_print((), pending, as_json=as_json)
    return ExitCode.DONE


@channel_command.command("keys")
@repository_argument
@click.argument("role", required=False)
@click.option("--add", type=_FILE, multiple=True, metavar="PUB", help="Public key that may sign from then on.")
@click.option("--remove", multiple=True, metavar="ID", help="First digits of the id of a key that may sign no more.")
@click.option("--threshold", type=int, help="How many have to sign.")
@click.option("--signer", multiple=True, metavar="KEY", help="Key of this host, for a role that it signs itself.")
@secret_option
@json_option
@refusable
def keys_command(
    repository: Path,
    role: str | None,
    add: tuple[Path, ...],
    remove: tuple[str, ...],
    threshold: int | None,
    signer: tuple[str, ...],
    secret_file: Path | None,
    as_json: bool,
) -> int:
    """List who may sign for each role, or ask for other keys for ROLE."""
    publisher = publisher_open(repository, secret_file)
    if not (add or remove or threshold or signer):
        roles_print(_roles(publisher, role), as_json=as_json)
        return ExitCode.DONE
    if role is None:
        raise UsageError("whose keys?", "hotmend channel keys REPOSITORY ROLE")
    pending = publisher.rekey(role, tuple(map(public_key_load, add)), remove, threshold, _absolute(signer))
    published_print((), pending, as_json=as_json)
    return ExitCode.DONE


@channel_command.command("add")
@repository_argument
@click.argument("channel")
@click.argument("files", nargs=-1, type=_FILE, metavar="FILE...")
@click.option("--document", type=_FILE, metavar="FILE", help="The release in full, as JSON.")
@click.option("--requires", metavar="ID", help="The baseline that hotpatches build on.")
@click.option("--id", "identity", default="", help="Identity of the release; made of month, package and version.")
@click.option("--title", default="", help="One line.")
@click.option("--supersedes", multiple=True, metavar="ID", help="An earlier hotpatch that this one holds as well.")
@click.option("--non-security", is_flag=True, help="Not a security update.")
@click.option("--urgency", type=click.Choice(("unknown", "low", "medium", "high", "critical")), default="unknown")
@click.option("--notes", type=_FILE, metavar="FILE", help="Release notes, plain text.")
@secret_option
@json_option
@refusable
def add_command(repository: Path, channel: str, files: tuple[Path, ...], as_json: bool, **options: Any) -> int:
    """Publish a release to the canary tier of CHANNEL.

    Each FILE is a bundle that `hotmend build` wrote. What they do not say is given by options, or by a document.
    """
    bundles = tuple(_read(file, BUNDLE_FILE_BYTES_MAX) for file in files)
    if options["document"] is not None:
        release = release_decode(_read(options["document"], DOCUMENT_BYTES_MAX), str(options["document"]))
    elif not bundles or not options["requires"]:
        raise UsageError("a release needs --document, or bundles and --requires", "see hotmend channel add --help")
    else:
        release = hotpatch_release(bundles, _about(channel, options), datetime.now(UTC).replace(microsecond=0))
    wanted = release.files if isinstance(release, HotpatchRelease) else ()
    if len(wanted) != len(bundles):
        raise UsageError(f"{release.id} has {len(wanted)} bundles, not {len(bundles)}")
    names = tuple(file.name for file in wanted)
    publisher_open(repository, options["secret_file"]).add(release, dict(zip(names, bundles, strict=True)))
    published_print((release.id,), None, as_json=as_json)
    return ExitCode.DONE


@channel_command.command("promote")
@repository_argument
@click.argument("channel")
@click.argument("releases", nargs=-1, required=True, metavar="RELEASE...")
@json_option
@refusable
def promote_command(repository: Path, channel: str, releases: tuple[str, ...], as_json: bool) -> int:
    """Ask for releases of the canary tier to be offered to the stable tier."""
    pending = publisher_open(repository, None).promote(channel, releases)
    published_print((), pending, as_json=as_json)
    return ExitCode.DONE


@channel_command.command("withdraw")
@repository_argument
@click.argument("channel")
@click.argument("release")
@click.option("--reason", required=True, help="One line, for everybody.")
@secret_option
@json_option
@refusable
def withdraw_command(
    repository: Path, channel: str, release: str, reason: str, secret_file: Path | None, as_json: bool
) -> int:
    """Withdraw a release: from canary at once; where the stable tier has it, that waits for signatures."""
    pending = publisher_open(repository, secret_file).withdraw(channel, (release,), reason)
    published_print((release,), pending, as_json=as_json)
    return ExitCode.DONE


@channel_command.command("issue")
@repository_argument
@click.argument("channel")
@click.argument("release")
@click.option("--title", required=True, help="What goes wrong, one line.")
@click.option("--workaround", default="", help="What helps.")
@click.option(
    "--details", type=_FILE, metavar="FILE", help="TOML: whom it concerns, steps with their proofs, deadline, cost."
)
@click.option("--replaces", type=int, metavar="NUMBER", help="The release's issue that it takes the place of, from 0.")
@click.option("--resolved-by", default="", metavar="RELEASE", help="The release that ends it.")
@secret_option
@json_option
@refusable
def issue_command(
    repository: Path,
    channel: str,
    release: str,
    title: str,
    workaround: str,
    details: Path | None,
    replaces: int | None,
    resolved_by: str,
    secret_file: Path | None,
    as_json: bool,
) -> int:
    """Add a known issue to a release, or put one in the place of another; published as a withdrawal is."""
    text = _text(_read(details, ISSUES_BYTES_MAX), details) if details is not None else ""
    issue = known_issue(title, datetime.now(UTC).replace(microsecond=0), workaround, text, str(details), resolved_by)
    publisher = publisher_open(repository, secret_file)
    if replaces is None:
        pending = publisher.add_issue(channel, release, issue)
    else:
        pending = publisher.replace_issue(channel, release, replaces, issue)
    published_print((release,), pending, as_json=as_json)
    return ExitCode.DONE


@channel_command.command("renew")
@repository_argument
@json_option
@refusable
def renew_command(repository: Path, as_json: bool) -> int:
    """Ask for new signatures of all that is signed offline, before it expires."""
    published_print((), publisher_open(repository, None).renew(), as_json=as_json)
    return ExitCode.DONE


@channel_command.command("sign")
@click.argument("request", type=_FILE)
@click.option("--key", "keys", multiple=True, required=True, metavar="KEY", help="A key to sign with.")
@click.option("--root", type=_FILE, metavar="FILE", help="A root that you trust: the request must be about it.")
@click.option("-o", "--output", type=_FILE, metavar="FILE", help="Where to write; REQUEST.signatures by default.")
@click.option("--yes", is_flag=True, help="Sign without asking.")
@secret_option
@json_option
@refusable
def sign_command(
    request: Path,
    keys: tuple[str, ...],
    root: Path | None,
    output: Path | None,
    yes: bool,
    secret_file: Path | None,
    as_json: bool,
) -> int:
    """Show what a REQUEST does, and sign it. Needs the request and the keys, and no network."""
    data = _read(request, requests.REQUEST_BYTES_MAX)
    trusted = _read(root, layout.ROOT_BYTES_MAX) if root is not None else None
    changes = requests.review(requests.request_decode(data), trusted)
    changes_print(changes, as_json=as_json)
    if not yes:
        if as_json:
            raise UsageError("with --json, nobody can be asked", "--yes signs without asking")
        click.confirm("Sign this?", abort=True, err=True)
    secrets = _secrets(secret_file)
    signatures = requests.sign(data, tuple(signer_load(key, secrets) for key in keys))
    target = output or request.with_name(f"{request.name}.signatures")
    write_file(target, requests.signatures_encode(signatures))
    shapes = tuple(RequestChangeShape(change.role, change.sentence) for change in changes)
    shape = SignedShape(signatures.request[:16], shapes, tuple(signatures.signatures), str(target))
    signed_print(shape, as_json=as_json)
    return ExitCode.DONE


@channel_command.command("accept")
@repository_argument
@click.argument("files", nargs=-1, required=True, type=_FILE, metavar="SIGNATURES...")
@secret_option
@json_option
@refusable
def accept_command(repository: Path, files: tuple[Path, ...], secret_file: Path | None, as_json: bool) -> int:
    """Take signatures that came back; once there are enough, publish what they sign."""
    publisher = publisher_open(repository, secret_file)
    for file in files:
        signatures = requests.signatures_decode(_read(file, requests.SIGNATURES_BYTES_MAX), str(file))
        pending = publisher.accept(signatures)
        published_print((signatures.request[:16],) if pending is None else (), pending, as_json=as_json)
    return ExitCode.DONE


@channel_command.command("refresh")
@repository_argument
@secret_option
@json_option
@refusable
def refresh_command(repository: Path, secret_file: Path | None, as_json: bool) -> int:
    """Sign anew what this host signs, before it expires. For a timer, at least once a day."""
    published_print(publisher_open(repository, secret_file).refresh(), None, as_json=as_json)
    return ExitCode.DONE


@channel_command.command("status")
@repository_argument
@json_option
@refusable
def status_command(repository: Path, as_json: bool) -> int:
    """Show what is offered, what waits and for how long, and what expires. Exit code 1 where something soon does."""
    publisher = publisher_open(repository, None)
    state, settings, contents = publisher.contents()
    now = datetime.now(UTC)
    roles = (layout.ROOT, layout.TARGETS, *state.delegated, layout.SNAPSHOT, layout.TIMESTAMP)
    expiries = tuple(expiry_shape(metadata.expiry_of(r, state.role(r), settings.days, now)) for r in roles)
    shape = ChannelStatusShape(
        not state.torn,
        expiries,
        tuple(tier_shape(content, contents, now) for content in contents),
        tuple(request_shape(pending, now) for pending in publisher.pending()),
        () if state.torn else tuple(i for channel in state.channels for i in publisher.unasked(channel)),
    )
    status_print(shape, as_json=as_json)
    bad = state.torn or shape.unasked or any(e.alert for e in expiries)
    return ExitCode.FAILED if bad else ExitCode.DONE


@channel_command.command("pending")
@repository_argument
@json_option
@refusable
def pending_command(repository: Path, as_json: bool) -> int:
    """Show the requests that wait for signatures: where they are, and what they do."""
    pending = publisher_open(repository, None).pending()
    pending_print(tuple(request_shape(p, datetime.now(UTC)) for p in pending), as_json=as_json)
    return ExitCode.DONE if pending else ExitCode.NOTHING_TO_DO


@channel_command.command("bundle")
@repository_argument
@click.argument("file", type=_FILE)
@click.option("--channel", "channels", multiple=True, help="Take this channel along; all by default.")
@click.option("--tier", "tiers", type=click.Choice([t.value for t in Tier]), multiple=True, default=["stable"])
@json_option
def bundle_command(
    repository: Path, file: Path, channels: tuple[str, ...], tiers: tuple[str, ...], as_json: bool
) -> int:
    """Write all that is in force into one FILE, for machines without a network."""
    count = airgap_write(Store(repository), file, channels, tuple(Tier(tier) for tier in tiers))
    archive_print(file, count, as_json=as_json)
    return ExitCode.DONE


def publisher_open(repository: Path, secret_file: Path | None) -> Publisher:
    """Return the publisher of a repository; passphrases come from the file, or from a person."""
    return Publisher(repository, _secrets(secret_file))


def _secrets(file: Path | None) -> Secret:
    """Return what gives passphrases and PINs: a file, or a person at a terminal."""

    def ask(what: str) -> str:
        if file is not None:
            return _secret_read(file)
        if not sys.stdin.isatty():
            raise InputError(f"{what}: is needed", "--secret FILE")
        answer: str = click.prompt(what, hide_input=True, err=True)
        return answer

    return ask


def _secret_read(file: Path) -> str:
    return _text(_read(file, 4096), file).rstrip("\n")


def _key_set(files: tuple[Path, ...], threshold: int) -> KeySet:
    return KeySet(tuple(public_key_load(file) for file in files), threshold)


def _absolute(references: tuple[str, ...]) -> tuple[str, ...]:
    """The settings are read from wherever the next command runs."""
    return tuple(r if r.startswith("hsm:") else str(Path(r).absolute()) for r in references)


def _roles(publisher: Publisher, only: str | None) -> tuple[RoleShape, ...]:
    state, _, _ = publisher.contents()
    names = (layout.ROOT, layout.TARGETS, *state.delegated, layout.SNAPSHOT, layout.TIMESTAMP)
    shapes = []
    for name in (only,) if only else names:
        key_set = metadata.key_set_of(state.delegator(name), name)
        shapes.append(RoleShape(name, key_set.threshold, tuple(key.keyid for key in key_set.keys)))
    return tuple(shapes)


def _about(channel: str, options: dict[str, Any]) -> About:
    notes = options["notes"]
    classification: Classification = "non-security" if options["non_security"] else "security"
    urgency = cast("Urgency", options["urgency"])
    return About(
        channel,
        options["requires"],
        options["identity"],
        options["title"],
        options["supersedes"],
        classification,
        urgency,
        _text(_read(notes, _NOTES_BYTES_MAX), notes) if notes is not None else "",
    )


def _text(data: bytes, source: Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InputError(f"{source}: is not UTF-8") from None


def _read(path: Path, bytes_max: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except OSError as error:
        raise HotmendError(f"{path}: {error.strerror or error}") from error
    if len(data) > bytes_max:
        raise InputError(f"{path}: longer than {bytes_max} bytes")
    return data
