"""A Windows Server as the commands see it."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.windows.wine import Wine, windows_path

_SET = """
import json, sys, winreg
for key, values in json.loads(sys.argv[1]).items():
    with winreg.CreateKeyEx(winreg.HKEY_LOCAL_MACHINE, key, 0, winreg.KEY_ALL_ACCESS) as handle:
        for name, value in values.items():
            kind = winreg.REG_DWORD if isinstance(value, int) else winreg.REG_SZ
            winreg.SetValueEx(handle, name, 0, kind, value)
"""
_GET = """
import json, sys, winreg
try:
    with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, sys.argv[1]) as handle:
        count = winreg.QueryInfoKey(handle)[1]
        print(json.dumps({n: v for n, v, k in (winreg.EnumValue(handle, i) for i in range(count))}))
except FileNotFoundError:
    print("null")
"""


class Server:
    """A Windows Server as the remedies see it."""

    def __init__(self, wine: Wine, state: Path) -> None:
        self.wine, self.state = wine, state
        self.environment: dict[str, str] = {}

    def set(self, keys: dict[str, dict[str, int | str]]) -> None:
        self.wine.script(_SET, json.dumps(keys))

    def get(self, key: str) -> Any:
        return json.loads(self.wine.script(_GET, key))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return self.wine.hotmend("windows", "--state", windows_path(self.state), *arguments, **self.environment)

    def do(self, *arguments: str) -> tuple[int, Any]:
        done = self.run(*arguments, "--json")
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        lines = done.stdout.decode().splitlines()
        assert lines, done.stderr.decode()
        return done.returncode, json.loads(lines[-1])

    def service(self, verb: str, *more: str) -> str:
        return self.wine.run("sc.exe", verb, "HIMDS", *more).stdout.decode()

    def begin_service(self) -> str:
        """Make the service and start it; return what the last question for its state was answered."""
        self.service("create", "binPath=", r"C:\windows\system32\spoolsv.exe")
        limit = time.monotonic() + 60
        while "RUNNING" not in (answer := self.service("query")) and time.monotonic() < limit:
            self.service("start")  # again where Wine's own sc.exe, or the service, has crashed at its start
        return answer


_AGENT_MODULE = "from tests.windows.emulated import register; register()"
SECURITY, DEFINITIONS, ROLLUPS = (
    "{0FA1201D-4330-4FA8-8AE9-B877473B6441}",
    "e0789628-ce08-4437-be74-2495b842f43b",
    "28bc880e-0592-4cbf-8f95-c79b17911d5f",
)


def update(kb: str, title: str = "", *, reboots: int | None = 1, **more: Any) -> dict[str, Any]:
    """Return an update as the emulated agent keeps it: offered, not downloaded, its terms not accepted."""
    made = {
        "id": f"00000000-0000-0000-0000-{kb.removeprefix('KB'):0>12}",
        "kbs": [kb],
        "title": title or f"2025-10 Cumulative Update ({kb})",
        "category": SECURITY,
        "reboots": reboots,
        "downloaded": False,
        "installed": False,
        "hidden": False,
        "uninstallable": True,
        "pending": False,
        "eula": False,
    }
    return {**made, **more}


def entry(kb: str, day: str, operation: int = 1, result: int = 2, code: int = 0, title: str = "") -> dict[str, Any]:
    """Return an entry of the emulated agent's history."""
    at = f"{day}T02:00:00+00:00"
    return {"at": at, "title": title or f"Update ({kb})", "operation": operation, "result": result, "code": code}


class AgentServer(Server):
    """A server whose update agent and CIM are emulated; what they know is the file `agent`."""

    def __init__(self, wine: Wine, state: Path, agent: Path) -> None:
        super().__init__(wine, state)
        self.agent = agent
        self.environment = {"HOTMEND_TEST_AGENT": windows_path(agent)}
        wine.script(_AGENT_MODULE)

    @property
    def data(self) -> dict[str, Any]:
        return dict(json.loads(self.agent.read_text()))

    def change(self, **changes: Any) -> None:
        self.agent.write_text(json.dumps({**(self.data if self.agent.exists() else {}), **changes}))

    def stored(self, kb: str) -> dict[str, Any]:
        return next(each for each in self.data["updates"] if kb in each["kbs"])

    def reboot(self) -> None:
        """Boot: what waited for it has taken effect."""
        self.wine.reboot()
        updates = [{**each, "pending": False} for each in self.data["updates"]]
        self.change(updates=updates, reboot_required=False, boot_first=False)
