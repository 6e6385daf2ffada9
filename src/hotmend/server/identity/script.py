"""The scripts that an administrator pastes into a machine: one for Linux, one for Windows."""

from __future__ import annotations

from typing import Final

_SCRIPT: Final = """\
#!/bin/sh
# Makes this machine one of {url}. It needs the package hotmend and root.
set -eu
if ! command -v hotmend >/dev/null; then
    echo 'hotmend is not installed: apt install ./hotmend_VERSION_amd64.deb' >&2
    exit 1
fi
HOTMEND_KEY='{key}' hotmend enroll '{url}' --server-key {public}
if [ -d /run/systemd/system ]; then
    systemctl enable --now hotmend-uplink
fi
"""

_WINDOWS: Final = """\
# Makes this machine one of {url}. For PowerShell as administrator, with Python 3.11 or later and hotmend for all users.
$ErrorActionPreference = 'Stop'
$hotmend = (Get-Command hotmend).Source
$env:HOTMEND_KEY = '{key}'
& $hotmend enroll '{url}' --server-key {public}
$failed = $LASTEXITCODE
Remove-Item Env:HOTMEND_KEY
if ($failed) {{ throw "not enrolled: exit code $failed" }}
$action = New-ScheduledTaskAction -Execute $hotmend -Argument 'windows agent'
$settings = New-ScheduledTaskSettingsSet -ExecutionTimeLimit ([TimeSpan]::Zero) -RestartCount 999 `
    -RestartInterval (New-TimeSpan -Minutes 1)
$trigger = New-ScheduledTaskTrigger -AtStartup
Register-ScheduledTask -TaskName hotmend -Action $action -Trigger $trigger -Settings $settings `
    -User SYSTEM -RunLevel Highest
Start-ScheduledTask -TaskName hotmend
"""


def enroll_script(url: str, key: str, public: str) -> str:
    """Return it.

    Args:
        url: of the server.
        key: registration key.
        public: the server's key: the machine believes no other server.
    """
    return _SCRIPT.format(url=url.replace("'", ""), key=key, public=public)


def windows_script(url: str, key: str, public: str) -> str:
    """Return the one for Windows; see `enroll_script`."""
    return _WINDOWS.format(url=url.replace("'", ""), key=key, public=public)
