"""The two things that facts ask of the network: whether an endpoint answers, and what the cloud says of its machine."""

from __future__ import annotations

import socket
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

METADATA: Final = "http://169.254.169.254"
_PATH: Final = "/metadata/instance/compute?api-version=2021-02-01"
_ANSWER_BYTES_MAX: Final = 1 << 20


def reached(host: str, seconds_max: float) -> bool:
    """Return whether a TCP connection to the HTTPS port of a host comes about; nothing is sent."""
    try:
        with socket.create_connection((host, 443), seconds_max):
            return True
    except OSError:
        return False


def instance(base: str, seconds_max: float) -> dict[str, Any]:
    """Return what Azure's instance metadata service says of this machine. No proxy is asked: the address is local.

    Raises:
        OSError: it does not answer, or not with what it should.
    """
    import http.client

    where = urlsplit(base)
    connection = http.client.HTTPConnection(where.hostname or "", where.port or 80, timeout=seconds_max)
    try:
        connection.request("GET", _PATH, headers={"Metadata": "true"})
        answer = connection.getresponse()
        data = answer.read(_ANSWER_BYTES_MAX)
        if answer.status != 200:
            raise OSError(f"the instance metadata service answers {answer.status}")
        return msgspec.json.decode(data, type=dict[str, Any])
    except (http.client.HTTPException, msgspec.DecodeError) as error:
        raise OSError(f"the instance metadata service: {error}") from error
    finally:
        connection.close()
