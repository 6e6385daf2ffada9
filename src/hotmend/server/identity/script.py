"""The script that an administrator pastes into a machine."""

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


def enroll_script(url: str, key: str, public: str) -> str:
    """Return it.

    Args:
        url: of the server.
        key: registration key.
        public: the server's key: the machine believes no other server.
    """
    return _SCRIPT.format(url=url.replace("'", ""), key=key, public=public)
