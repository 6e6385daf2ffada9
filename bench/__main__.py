"""`python -m bench`: build times, sizes, pauses, throughput and latency on stock packages. Needs root."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.assessing import assessing_measure
from bench.builds import builds_measure
from bench.checkin import MACHINES, checkin_measure
from bench.cost import cost_measure
from bench.crowds import crowds_measure
from bench.cycles import SUBJECTS, cycles_measure
from bench.hostile import hostile_measure
from bench.idle import idle_measure
from bench.latency import Deeds, latency_measure
from bench.outage import INTERVAL_SECONDS, outage_measure
from bench.pages import pages_measure
from bench.patching import Changer, pauses_measure, throughput_measure
from bench.peers.measure import peers_measure
from bench.publishing import publishing_measure
from bench.replaces import replaces_measure
from bench.report import Figure, figures_print
from bench.rollout import rollout_measure
from bench.servicing import servicing_measure
from bench.stops import FUNCTIONS, MODES, THREADS, budget_measure, stops_measure, window_measure
from bench.trials import rehearsal_measure, verify_measure
from bench.watching import watching_measure
from tests.servers.apache import ACCEPT as APACHE_ACCEPT
from tests.servers.apache import PACKAGE as APACHE_PACKAGE
from tests.servers.apache import apache_start
from tests.servers.command import update_build
from tests.servers.haproxy import LIBRARIES, haproxy_start
from tests.servers.nginx import ACCEPT, nginx_command, nginx_start
from tests.servers.packages import candidate_version, deb_fetch, deb_unpack, pair_find
from tests.servers.process import Server
from tests.servers.redis import PACKAGE as REDIS_PACKAGE
from tests.servers.redis import redis_start

SECTIONS = (
    "build",
    "pause",
    "stops",
    "budget",
    "window",
    "hostile",
    "crowds",
    "assess",
    "agent",
    "cost",
    "threads",
    "throughput",
    "latency",
    "cycles",
    "replace",
    "watch",
    "rehearsal",
    "verify",
    "servicing",
    "publishing",
    "rollout",
    "checkin",
    "pages",
    "outage",
    "peers",
)


def main() -> int:
    """Measure what was asked for and print it; nothing is judged."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one object per figure on stdout")
    parser.add_argument("--cycles", type=int, default=100, metavar="N", help="apply/revert cycles (100)")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="measure only this; may be repeated")
    parser.add_argument("--threads", type=int, nargs="+", default=THREADS, metavar="N", help="for stops (1 8 64 256)")
    parser.add_argument("--functions", type=int, nargs="+", default=FUNCTIONS, metavar="N", help="for stops (10 2000)")
    parser.add_argument("--machines", type=int, nargs="+", default=MACHINES, metavar="N", help="for checkin and pages")
    parser.add_argument("--servers", choices=SUBJECTS, nargs="+", default=list(SUBJECTS), help="for cycles (all)")
    parser.add_argument("--seconds", type=float, default=3600.0, metavar="N", help="for cycles: at most (3600), each")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="for cycles: keep what was seen, go on from there")
    parser.add_argument(
        "--interval", type=int, default=INTERVAL_SECONDS, metavar="N", help="for outage: seconds between check-ins (10)"
    )
    parser.add_argument("--peers-from", type=Path, metavar="FOLDER", help="for peers: checkouts that are there already")
    parser.add_argument(
        "--try-seconds", type=float, default=15.0, metavar="N", help="for peers: at most, for a kind and engine (15)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hotmend-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        figures_print(figures_measure(folder, options), as_json=options.json)
    return 0


def figures_measure(folder: Path, options: argparse.Namespace) -> Iterator[Figure]:
    """Yield every figure of the chosen sections as soon as it is measured."""
    cycles = options.cycles
    note = "what else the machine does shows in every figure"
    yield Figure("Machine", "load average before", os.getloadavg()[0], "", os.cpu_count(), "processors", note)
    steps: dict[str, Callable[[], Iterator[Figure]]] = {
        "build": lambda: builds_measure(folder / "builds"),
        "pause": lambda: _on_nginx(folder / "pause", lambda s, f: _pauses(s, f, cycles)),
        "stops": lambda: stops_measure(folder / "stops", cycles, options.threads, options.functions, MODES),
        "budget": lambda: budget_measure(folder / "budget", cycles, options.threads),
        "window": lambda: window_measure(folder / "window", cycles),
        "hostile": lambda: hostile_measure(folder / "hostile"),
        "crowds": lambda: crowds_measure(folder / "crowds"),
        "assess": lambda: assessing_measure(folder / "assess"),
        "agent": lambda: idle_measure(folder / "agent"),
        "cost": lambda: cost_measure(folder / "cost"),
        "threads": lambda: _on_redis(folder / "threads", lambda s, f: pauses_measure(s, f, cycles, loaded=False)),
        "throughput": lambda: _on_nginx(folder / "throughput", throughput_measure),
        "latency": lambda: _latency(folder / "latency"),
        "cycles": lambda: cycles_measure(folder / "cycles", options.servers, cycles, options.seconds, options.keep),
        "replace": lambda: replaces_measure(folder / "replace", cycles),
        "watch": lambda: watching_measure(folder / "watch", cycles),
        "rehearsal": lambda: _rehearsals(folder / "rehearsal"),
        "verify": lambda: verify_measure(folder / "verify"),
        "servicing": servicing_measure,
        "publishing": publishing_measure,
        "rollout": lambda: rollout_measure(folder / "rollout"),
        "checkin": lambda: checkin_measure(folder / "checkin", options.machines),
        "pages": lambda: pages_measure(folder / "pages", max(options.machines)),
        "outage": lambda: outage_measure(folder / "outage", options.interval),
        "peers": lambda: peers_measure(folder / "peers", options.peers_from, options.try_seconds),
    }
    for section in options.only or SECTIONS:
        try:
            yield from steps[section]()
        except (AssertionError, RuntimeError) as error:
            yield Figure(section, "not measured", None, "", note=str(error).splitlines()[0][:200])


def _pauses(server: Server, hotpatch: Path, cycles: int) -> Iterator[Figure]:
    yield from pauses_measure(server, hotpatch, cycles, loaded=False)
    yield from pauses_measure(server, hotpatch, cycles, loaded=True)


def _on_nginx(folder: Path, measure: Callable[[Server, Path], Iterator[Figure]]) -> Iterator[Figure]:
    hotpatch = _prepare(folder, "nginx", "usr/sbin/nginx", ACCEPT)
    with nginx_start(folder / "tree", folder / "run") as server:
        yield from measure(server, hotpatch)


def _on_redis(folder: Path, measure: Callable[[Server, Path], Iterator[Figure]]) -> Iterator[Figure]:
    hotpatch = _prepare(folder, REDIS_PACKAGE, "usr/bin/redis-check-rdb")
    with redis_start(folder / "tree", folder / "run") as server:
        yield from measure(server, hotpatch)


def _rehearsals(folder: Path) -> Iterator[Figure]:
    """Rehearse, and then change, four stock servers."""
    yield from _on_nginx(folder / "nginx", rehearsal_measure)
    yield from _on_redis(folder / "redis", rehearsal_measure)
    hotpatch = _prepare(folder / "haproxy", "haproxy", "usr/sbin/haproxy")
    for library in LIBRARIES:
        deb_unpack(deb_fetch(library, candidate_version(library)), folder / "haproxy" / "tree")
    with haproxy_start(folder / "haproxy" / "tree", folder / "haproxy" / "run") as server:
        yield from rehearsal_measure(server, hotpatch)
    hotpatch = _prepare(folder / "apache", APACHE_PACKAGE, "mod_userdir.so", APACHE_ACCEPT)
    with apache_start(folder / "apache" / "tree", folder / "apache" / "run") as server:
        yield from rehearsal_measure(server, hotpatch)


def _latency(folder: Path) -> Iterator[Figure]:
    hotpatch = _prepare(folder, "nginx", "usr/sbin/nginx", ACCEPT)
    tree, run = folder / "tree", folder / "run"
    servers = [nginx_start(tree, run)]
    first = servers[0]

    def restart() -> None:
        servers.pop().stop()
        servers.append(nginx_start(tree, run, port=first.port))

    deeds = Deeds(
        patch=lambda: Changer(servers[-1], hotpatch).cycle(),
        reload=lambda: _run([*nginx_command(tree, run), "-s", "reload"]),
        restart=restart,
    )
    try:
        yield from latency_measure(first.port, deeds)
    finally:
        servers[-1].stop()


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)


def _prepare(folder: Path, package: str, image: str, accept: tuple[str, ...] = ()) -> Path:
    """Unpack the old build, build the update, return the hotpatch file."""
    pair = pair_find(package)
    (folder / "run").mkdir(parents=True)
    (folder / "run").chmod(0o755)
    deb_unpack(pair.old, folder / "tree")
    target = folder / f"{package}.hotmend"
    update_build(pair.old, pair.new, target, image, accept=accept)
    return target


if __name__ == "__main__":
    sys.exit(main())
