"""`python -m faults.agent`: the agent killed after each line of its history; is the record true? Needs root.

The machine is a booted Debian in namespaces of this one, with a stock redis of the archive's first version. Takes all
three kinds of turn, or those that `--turn` names.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.agent.kills import BROUGHT_IN, REBOOTED, TAKEN_BACK, kill_at_all
from tests.agent.machine import Machine
from tests.agent.redis import old_redis

SCENARIOS = {scenario.name: scenario for scenario in (BROUGHT_IN, TAKEN_BACK, REBOOTED)}


def main() -> int:
    """Kill it everywhere and print what was found; 1 where something was not true after the next turn."""
    parser = argparse.ArgumentParser(prog="python -m faults.agent", description=__doc__)
    parser.add_argument("--turn", action="append", choices=SCENARIOS, help="only this one")
    chosen = parser.parse_args().turn or list(SCENARIOS)
    untrue = 0
    with (
        tempfile.TemporaryDirectory(prefix="hotmend-kills-") as name,
        Machine(Path(name) / "machine", systemd=True) as machine,
    ):
        machine.offer_only("redis-*")
        old_redis(machine)
        for scenario in map(SCENARIOS.__getitem__, chosen):
            began, at = time.monotonic(), Counter[str]()
            for kind, wrong in kill_at_all(machine, scenario):
                at[kind] += 1
                untrue += bool(wrong)
                if wrong:
                    print(f"{scenario.name}, killed after {kind}: {'; '.join(wrong)}", flush=True)
            told = ", ".join(f"{kind} {count}" if count > 1 else kind for kind, count in at.items())
            print(f"{scenario.name}: {at.total()} kills in {time.monotonic() - began:.0f} s: {told}", flush=True)
    print(f"{untrue} records not true; load average {os.getloadavg()[0]:.1f}")
    return 1 if untrue else 0


if __name__ == "__main__":
    sys.exit(main())
