"""`hotmend channel fetch`: what a machine sees of a channel, verified as its agent does."""

from __future__ import annotations

from pathlib import Path

import click

from hotmend.cli.channel_text import fetched_print, refused_print, release_shape
from hotmend.cli.output import ExitCode
from hotmend.cli.publish_shapes import ChannelReleaseShape, FetchShape
from hotmend.model.errors import HotmendError
from hotmend.model.verdict import Reason
from hotmend.package.files import write_file
from hotmend.repository.client import Channel, open_channel, trust
from hotmend.repository.documents import release_encode
from hotmend.repository.layout import ROOT_BYTES_MAX, Tier
from hotmend.repository.releases import AnyRelease


@click.command("fetch")
@click.argument("source")
@click.argument("channel")
@click.argument("release", required=False)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/var/lib/hotmend/channel"),
    show_default=True,
    help="Folder for what this machine trusts and has seen.",
)
@click.option("--root", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="The root to begin with.")
@click.option("--tier", type=click.Choice([t.value for t in Tier]), default="stable", show_default=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Where to write RELEASE."
)
@click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
def fetch_command(
    source: str,
    channel: str,
    release: str | None,
    state: Path,
    root: Path | None,
    tier: str,
    output: Path | None,
    as_json: bool,
) -> int:
    """Show what CHANNEL offers, or write RELEASE into a folder, after verifying everything.

    SOURCE is a mirror's address (https://…), its folder, or a file of `channel bundle`. None of them is trusted.
    """
    if root is not None:
        trust(state, root_read(root))
    opened = open_channel(source, state, channel, Tier(tier))
    if isinstance(opened, Reason):
        refused_print((opened,), as_json=as_json)
        return ExitCode.REFUSED
    if release is None:
        releases = tuple(release_shape(entry) for entry in opened.index.releases)
        fetched_print(FetchShape(channel, tier, releases, ()), as_json=as_json)
        return ExitCode.DONE if releases else ExitCode.NOTHING_TO_DO
    return _fetch(opened, release, output or Path(), as_json=as_json)


def _fetch(opened: Channel, identity: str, output: Path, *, as_json: bool) -> int:
    fetched = opened.fetch(identity)
    if isinstance(fetched, Reason):
        refused_print((fetched,), as_json=as_json)
        return ExitCode.REFUSED
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HotmendError(f"{output}: {error.strerror or error}", "choose another place with -o") from error
    written = [_write(output / f"{identity}.release.json", release_encode(fetched.release))]
    written += [_write(output / place.name, place.read_bytes()) for place, _ in fetched.files]
    shape = FetchShape(opened.index.channel, opened.tier.value, (_shape(opened, fetched.release),), tuple(written))
    fetched_print(shape, as_json=as_json)
    return ExitCode.DONE


def _shape(opened: Channel, release: AnyRelease) -> ChannelReleaseShape:
    return release_shape(next(entry for entry in opened.index.releases if entry.id == release.id))


def _write(path: Path, data: bytes) -> str:
    write_file(path, data)
    return str(path)


def root_read(path: Path) -> bytes:
    """Return the content of a file with a root."""
    try:
        with path.open("rb") as file:
            return file.read(ROOT_BYTES_MAX + 1)
    except OSError as error:
        raise HotmendError(f"{path}: {error.strerror or error}") from error
