"""`hotmend server`: the control plane of a fleet, in one process."""

from __future__ import annotations

import os
import ssl
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from hotmend.cli.output import ExitCode, print_note
from hotmend.model.errors import HotmendError, UsageError

if TYPE_CHECKING:
    from hotmend.server.releases.following import Followed
    from hotmend.server.settings import Settings

_DEFAULT_FOLDER = "/var/lib/hotmend/server"
_NOT_STARTED = 3
"""Exit code of uvicorn where it has not begun, which means "nothing to do" here."""


@click.command("server")
@click.option("--database", help="URL of PostgreSQL or SQLite; a file below --state by default.")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=_DEFAULT_FOLDER,
    show_default=True,
    help="Where SQLite's file is.",
)
@click.option("--listen", default="127.0.0.1:8470", show_default=True, metavar="HOST:PORT", help="Where to listen.")
@click.option("--url", default="", help="How machines and people reach it; where it listens by default.")
@click.option("--tls-certificate", type=click.Path(path_type=Path, dir_okay=False), help="PEM file; with --tls-key.")
@click.option("--tls-key", type=click.Path(path_type=Path, dir_okay=False), help="PEM file; with --tls-certificate.")
@click.option(
    "--check-in-seconds",
    type=click.IntRange(5, 86400),
    default=60,
    show_default=True,
    help="Between two check-ins of a machine.",
)
@click.option("--channel", default="", metavar="NAME", help="Signed channel to follow; with --channel-source.")
@click.option("--channel-source", default="", metavar="SOURCE", help="Its address, folder or archive.")
@click.option("--channel-tier", type=click.Choice(["canary", "stable"]), default="stable", show_default=True)
@click.option(
    "--channel-root",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The root to begin with, from a source that you trust; needed once.",
)
@click.option(
    "--trusted-proxy",
    "proxies",
    multiple=True,
    metavar="ADDRESS",
    help="Address or network of a proxy whose X-Forwarded-For is believed; may be given several times.",
)
@click.option("--backup", type=click.Path(path_type=Path, dir_okay=False), help="Write all rows into a file, and end.")
@click.option(
    "--restore", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Read them back, and end."
)
def server_command(
    database: str | None,
    state: Path,
    listen: str,
    url: str,
    tls_certificate: Path | None,
    tls_key: Path | None,
    check_in_seconds: int,
    channel: str,
    channel_source: str,
    channel_tier: str,
    channel_root: Path | None,
    proxies: tuple[str, ...],
    backup: Path | None,
    restore: Path | None,
) -> int:
    """Serve a fleet: machines check in, people look and decide, rollouts go on.

    Any number of these processes may share one PostgreSQL. The first start prints a token for the first administrator.
    """
    from hotmend.server.settings import Settings

    if (tls_certificate is None) != (tls_key is None):
        raise UsageError("--tls-certificate and --tls-key belong together")
    if bool(channel) != bool(channel_source):
        raise UsageError("--channel and --channel-source belong together")
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"not an address to listen on: {listen}", "--listen 127.0.0.1:8470")
    if url and not _reachable(url):
        raise UsageError(f"not an address of a server: {url}", "--url https://fleet.example")
    if database is None:
        try:
            state.mkdir(mode=0o750, parents=True, exist_ok=True)
        except OSError as error:
            raise HotmendError(f"{state}: {error.strerror or error}", "--state names another folder") from error
        database = f"sqlite:///{state.resolve() / 'server.db'}"
    if backup is not None or restore is not None:
        return _carry(database, backup, restore)
    if tls_certificate is not None and tls_key is not None:
        _check_tls(tls_certificate, tls_key)
    scheme = "http" if tls_certificate is None else "https"
    settings = Settings(
        database,
        host.strip("[]"),
        int(port),
        url or f"{scheme}://{listen}",
        check_in_seconds,
        secure_cookies=scheme == "https" or url.startswith("https:"),
        trusted_proxies=tuple(_proxy(each) for each in proxies),
    )
    if not url and _anywhere(settings.host):
        print_note(f"nobody can go to {settings.public_url}: --url says how machines and people reach this server")
    followed = _followed(channel, channel_source, channel_tier, channel_root, state) if channel else None
    _serve(settings, tls_certificate, tls_key, followed)
    return ExitCode.DONE


def _reachable(url: str) -> bool:
    """Say whether machines and people can go to an address: scripts, policies and evidence have it as it is."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _anywhere(host: str) -> bool:
    """Say whether it is no address to go to, but stands for all that this host has."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _check_tls(certificate: Path, key: Path) -> None:
    """Read what the server is to show who it is with.

    Raises:
        HotmendError: one of both cannot be read, or they are no certificate and its key.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        text = f"{certificate} and {key} are no certificate in PEM and its key: {error.reason or error}"
        raise HotmendError(text, "--tls-certificate and --tls-key name other files") from error
    except OSError as error:
        # the library says of neither which one it is
        files = " or ".join(str(each) for each in (certificate, key) if not os.access(each, os.R_OK))
        raise HotmendError(f"{files or certificate}: {error.strerror or error}") from error


def _proxy(text: str) -> str:
    """Return an address or network.

    Raises:
        UsageError: it is none: what nobody can be would be trusted for ever.
    """
    try:
        network = ip_network(text)
    except ValueError:
        raise UsageError(f"not an address or network: {text}", "--trusted-proxy 10.0.0.7") from None
    return str(network) if "/" in text else text


def _carry(url: str, out: Path | None, back: Path | None) -> int:
    """Back up, or restore."""
    from hotmend.server.backup import backup, restore
    from hotmend.server.database import open_database

    if out is not None and back is not None:
        raise UsageError("--backup or --restore, not both")
    database = open_database(url)
    try:
        if out is not None:
            print_note(f"{backup(database, out)} rows in {out}: it holds the server's key, keep it like one")
        elif back is not None:
            print_note(f"{restore(database, back)} rows restored")
    except OSError as error:
        raise HotmendError(f"{error.filename}: {error.strerror or error}") from error
    finally:
        database.close()
    return ExitCode.DONE


def _serve(settings: Settings, certificate: Path | None, key: Path | None, followed: Followed | None) -> None:
    import uvicorn

    from hotmend.server.app import make_app
    from hotmend.server.audit.watching import Auditor
    from hotmend.server.compliance.daily import Chronicler
    from hotmend.server.context import system_clock
    from hotmend.server.database import open_database
    from hotmend.server.figures.every import FIGURES
    from hotmend.server.figures.keeper import Keeper
    from hotmend.server.identity.service import begin_setup
    from hotmend.server.maintenance.closing import Closer
    from hotmend.server.releases.following import Follower
    from hotmend.server.rollouts.workflow import Director
    from hotmend.server.webhooks.sending import Messenger
    from hotmend.server.worker import Worker, end_all

    database = open_database(settings.database)
    try:
        app = make_app(settings, database)
        context = app.state.context
        workers: list[Worker] = [Director(context), Messenger(context), Closer(context), Chronicler(context)]
        workers += [Keeper(context, FIGURES), Auditor(context)]
        workers += [] if followed is None else [Follower(context, followed)]
        for worker in workers:
            app.state.at_start.append(worker.start)
            app.state.workers.append(worker)
        app.state.at_end.append(lambda: end_all(workers))
        if token := begin_setup(database, system_clock()):
            print_note(
                f"first administrator, within 24 hours: hotmend fleet setup {settings.public_url} --token {token}"
            )
        print_note(f"server key: {app.state.context.key.public}")
        uvicorn.run(
            app,
            host=settings.host,
            port=settings.port,
            ssl_certfile=certificate,
            ssl_keyfile=key,
            access_log=False,
            server_header=False,
            log_level="warning",
            timeout_graceful_shutdown=10,
            **settings.proxy_options,
        )
    except SystemExit as stop:
        if stop.code != _NOT_STARTED:
            raise
        where = f"{settings.host}:{settings.port}"
        raise HotmendError(f"nothing listens on {where}: the line above says why", "--listen HOST:PORT") from stop
    finally:
        database.close()


def _followed(name: str, source: str, tier: str, root: Path | None, state: Path) -> Followed:
    """Return the channel that is followed.

    Raises:
        HotmendError: the root cannot be read, or another one is trusted.
    """
    from hotmend.repository.catalogue import catalogue
    from hotmend.repository.client import trust
    from hotmend.repository.layout import ROOT_BYTES_MAX, Tier
    from hotmend.server.releases.following import Followed

    folder = state / "channel"
    if root is not None:
        try:
            with root.open("rb") as stream:
                trust(folder, stream.read(ROOT_BYTES_MAX + 1))
        except OSError as error:
            raise HotmendError(f"{root}: {error.strerror or error}") from error
    return Followed(name, tier, source, lambda: catalogue(source, folder, name, Tier(tier)))
