"""How services end on a booted machine, by its own service manager, and which of these ends the agent takes for ill."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from tests.agent.machine import Machine

SERVICES = {
    "goes-on": ("sleep 1000", True),
    "stopped": ("sleep 1000", True),
    "exits": ("read end < /run/exits; exit 0", True),
    "idle": ("read end < /run/idle; exit 0", False),
    "fails": ("read end < /run/fails; exit 1", False),
    "timed": ("read end < /run/timed; exit 0", True),
}
"""What each runs, and whether the machine's target wants it; `timed` is a timer's, too."""

LOOK = f"""
import json, subprocess, time
from hotmend.agent.health.ended import ended_together
from hotmend.agent.health.probes import begin, unhealthy
from hotmend.agent.health.services import ServiceProbe
from hotmend.agent.record.history import ChangedProcess
from hotmend.agent.census.systemd import systemctl

names = [*{list(SERVICES)!r}, "transient", "oneshot"]
probes = [ServiceProbe(name=name, unit=f"{{name}}.service", tries=1) for name in names]
watched = begin(probes)
main = {{name: int(systemctl("show", "--value", "--property=MainPID", name)) for name in names}}
for name in ("exits", "idle", "fails", "timed", "transient", "oneshot"):
    with open(f"/run/{{name}}", "w") as fifo:
        fifo.write("end\\n")
systemctl("stop", "stopped")
active = ["list-units", "--plain", "--no-legend", "--state=active", *(f"{{name}}.service" for name in names)]
while systemctl(*active).count("\\n") > 1:
    time.sleep(0.1)
told = {{probe.name: unhealthy([probe], watched) for probe in probes}}
# the first, which goes on, has another start than this
gone = {{n: ended_together([ChangedProcess(main[n], 0, n, f"{{n}}.service")], 1.0, services=True) for n in names[1:]}}
print(json.dumps([sorted(watched.known), told, gone]))
"""


def test_what_ends_well_and_what_does_not(tmp_path: Path) -> None:
    with Machine(tmp_path / "machine", systemd=True) as machine:
        for name, (command, wanted) in SERVICES.items():
            install = "\n[Install]\nWantedBy=machine.target" if wanted else ""
            unit = f"[Service]\nExecStart=/bin/sh -c '{command}'{install}"
            machine.run(f"mkfifo /run/{name}; cat > /etc/systemd/system/{name}.service <<'END'\n{unit}\nEND")
        machine.run(
            "printf '[Timer]\nOnActiveSec=1y\n' > /etc/systemd/system/timed.timer; mkfifo /run/transient /run/oneshot"
        )
        machine.run("systemctl daemon-reload; systemctl enable --quiet goes-on stopped exits timed")
        machine.run(f"systemctl start timed.timer {shlex.join(SERVICES)}")
        machine.run("systemd-run --quiet --collect --unit=transient sh -c 'read end < /run/transient'")
        oneshot = "--property=Type=oneshot sh -c 'read end < /run/oneshot'"
        machine.run(f"systemd-run --quiet --no-block --collect --unit=oneshot {oneshot}")
        machine.run("until test $(systemctl show --value --property=MainPID oneshot) != 0; do sleep 0.1; done")
        machine.run(f"cat > /tmp/look.py <<'END'\n{LOOK}END")
        known, told, gone = json.loads(machine.run(f"{shlex.quote(sys.executable)} /tmp/look.py").stdout)
    assert known == ["exits", "fails", "goes-on", "idle", "stopped", "timed", "transient"]
    ill = {"exits": "exits.service has ended by itself", "fails": "fails.service is failed"}
    assert {name: why.partition(": ")[2] for name, why in told.items() if why} == ill
    assert {name for name, why in gone.items() if why} == set(ill)
