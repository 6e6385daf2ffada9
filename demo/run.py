"""A stock nginx under load goes from the released build to its security update and back, without a restart.

Everything happens in a temporary directory and on loopback; nothing is installed, and all processes end with it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hotmend.model.errors import HotmendError
from tests.servers.checks import Check, State
from tests.servers.load import Result, wrk_start
from tests.servers.nginx import CHECKS, nginx_start
from tests.servers.packages import ArchiveError, deb_unpack, pair_find
from tests.servers.process import Server

WARM_SECONDS = 2.0
COMMAND_SECONDS_MAX = 300
REFUSED = 4
_BOLD, _PLAIN = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")


class DemoError(HotmendError):
    """Something did not go as it should."""


def main() -> int:
    """Run the demonstration; return 0 when everything went as it should."""
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="hotmend-demo-") as name:
            folder = Path(name)
            folder.chmod(0o755)  # nginx's workers are nobody
            _run(folder)
    except (HotmendError, ArchiveError, RuntimeError, TimeoutError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    print(f"\nDone in {time.monotonic() - began:.0f} s: old code, new code, old code; no restart, no failed request.")
    return 0


def _run(folder: Path) -> None:
    pair = pair_find("nginx")
    _title(f"1. Two stock builds: nginx {pair.old_version} and its security update {pair.new_version}")
    hotpatch = folder / "nginx.hotmend"
    _build(f"nginx={pair.old_version}", f"nginx={pair.new_version}", hotpatch)

    _title("2. The old build serves: a master and two workers, from the unpacked package, on loopback")
    tree = deb_unpack(pair.old, folder / "old")
    run = folder / "run"
    run.mkdir(mode=0o755)
    with nginx_start(tree, run) as server:
        born = server.identities()
        print(f"processes {', '.join(str(identity.pid) for identity in born)}")
        _show_checks(server, State.VULNERABLE)

        _title("3. Apply, in the middle of the load")
        _under_load(server, lambda: _hotmend("apply", str(hotpatch), *_pids(server)))
        _show_checks(server, State.FIXED)
        _hotmend("status", *_pids(server))

        _title("4. Revert, in the middle of the load")
        _under_load(server, lambda: _hotmend("revert", str(hotpatch), *_pids(server)))
        _show_checks(server, State.VULNERABLE)
        if server.identities() != born:
            raise DemoError("a process was restarted")
        print("\nThe processes are the same as at the beginning: same numbers, same start times.")


def _build(old: str, new: str, hotpatch: Path) -> None:
    """Build the hotpatch; where it is refused for what the process might hold, accept that as an operator would."""
    words = ("build", old, new, "-o", str(hotpatch))
    if _hotmend(*words, also=REFUSED) == REFUSED:
        print(
            "\nRefused: new code makes a larger object for each HTTP/2 connection, and would overrun those of\n"
            "connections that are open at the switch. This server has none then, and its operator knows:"
        )
        _hotmend(*words, "--accept", "allocation-size-changed")


def _title(text: str) -> None:
    print(f"\n{_BOLD}{text}{_PLAIN}", flush=True)


def _pids(server: Server) -> list[str]:
    """Name the processes: other nginx of this machine are none of our business."""
    return [word for pid in server.pids() for word in ("--pid", str(pid))]


def _hotmend(*words: str, also: int = 0) -> int:
    """Run the command, let it speak for itself, and return its exit code: 0 or `also`."""
    print(f"$ hotmend {' '.join(words)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "hotmend", *words], timeout=COMMAND_SECONDS_MAX, check=False)
    if done.returncode not in (0, also):
        raise DemoError(f"hotmend {words[0]} ended with exit code {done.returncode}")
    return done.returncode


def _under_load(server: Server, change: Callable[[], object]) -> None:
    load = wrk_start(server)
    try:
        time.sleep(WARM_SECONDS)
        change()
        time.sleep(WARM_SECONDS)
        if not load.running():
            raise DemoError("the load ended too early")
    finally:
        result = load.stop()
    _show_load(result)


def _show_load(result: Result) -> None:
    print(f"load: {result.requests} requests, {result.per_second:.0f} per second, {result.failures} failed")
    if result.failures or not result.requests:
        raise DemoError(f"requests failed\n{result.printed}")


def _show_checks(server: Server, expected: State) -> None:
    """Ask the server what only the old, or only the new code answers."""
    print()
    for check in CHECKS:
        answer = check.probe(server)
        wanted = check.old if expected is State.VULNERABLE else check.new
        print(f"  {check.cve:<16} {expected.value:<10} {check.what}\n{'':>28} answer: {_short(check, answer)}")
        if answer != wanted:
            raise DemoError(f"{check.name}: {answer!r}, wanted {wanted!r}")
    sys.stdout.flush()


def _short(check: Check, answer: str) -> str:
    return answer or f"(empty: {check.name} is over)"


if __name__ == "__main__":
    sys.exit(main())
