"""Six stock servers under load go to today's security level, twice: by `hotmend upgrade` and by plain apt: `make six`.

Each way has a booted Debian of its own, in namespaces of this machine, with nginx, redis, haproxy, apache2, openssh and
postgres of the archive's first versions, and a client for each that never pauses. After the update come graceful
reloads and what logrotate does, then a real restart of all. A request that fails where the verdict allows to go on, a
restart that is not called for, or one that is and is not told, ends it with 1. `--way` takes one way alone;
`--libraries` (`make six LIBRARIES=1`) also has the archive's newest of every library that the six map.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from demo.run import DemoError
from tests.agent import six
from tests.agent.load import Count
from tests.agent.machine import Machine

_WAYS: Final = {"hotmend upgrade": six.upgrade, "apt upgrade": six.apt_upgrade}


def main() -> int:
    """Run it; return 0 when everything was as it should be."""
    parser = argparse.ArgumentParser(prog="python -m demo.six", description=__doc__)
    parser.add_argument("--way", choices=_WAYS, help="only this one")
    parser.add_argument("--libraries", action="store_true", help="the libraries that they map as well")
    asked = parser.parse_args()
    chosen = asked.way
    try:
        for way in [chosen] if chosen else _WAYS:
            with (
                tempfile.TemporaryDirectory(prefix="hotmend-six-") as name,
                Machine(Path(name) / "machine", systemd=True) as machine,
            ):
                _run(machine, way, libraries=asked.libraries)
    except (DemoError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        print(f"\nsix: {error}", file=sys.stderr)
        return 1
    return 0


def _run(machine: Machine, way: str, *, libraries: bool) -> None:
    began = time.monotonic()
    print(f"\n{way}\n", flush=True)
    six.start_all(machine)
    if libraries:
        print(f"libraries: {', '.join(six.offer_libraries(machine))}", flush=True)
    old, before = six.versions(machine), six.starts(machine)
    with six.asked(machine) as during:
        said = _WAYS[way](machine)
    new, after = six.versions(machine), six.starts(machine)
    seen = six.Seen(said, {name for name in after if after[name] != before[name]}, during)
    due = six.due(machine)
    wrong = (six.wrong_with_libraries if libraries else six.wrong_after_upgrade)(machine, seen)
    with six.asked(machine) as reloading:
        six.graceful(machine)
    reloaded = six.starts(machine)
    wrong += six.wrong_after_reloads(reloading, {name for name in after if after[name] != reloaded[name]})
    six.restart_all(machine)
    wrong += six.wrong_after_restart(machine)
    _row("server", "from", "to", "in memory", "restarted", "requests, failed", "... while reloading")
    for name, memory in said.told.items():
        restarted = "by its package" if name in seen.restarted else "due, and told" if name in due else "no"
        _row(name, old[name], new[name], memory, restarted, _counted(during[name]), _counted(reloading[name]))
    for package, outcome in said.packages.items():
        print(f"{package}: {outcome}")
    for name, count in during.items():
        if count.bad:
            print(f"{name}, failed between its new files and the end of its restart: {count.examples.strip()}")
    print(f"after real restarts all six answer with the new program; {time.monotonic() - began:.0f} s")
    if wrong:
        raise DemoError("; ".join(wrong))


def _row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def _counted(count: Count) -> str:
    return f"{count.good + count.bad}, {count.bad}"


if __name__ == "__main__":
    sys.exit(main())
