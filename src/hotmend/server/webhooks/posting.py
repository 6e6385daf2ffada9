"""One POST to whoever it may be: it has ended when its time is over, whatever the other side does.

A time limit of a socket is one for each read: who sends a byte now and then, or `100 Continue` for ever, never meets
it, and looking a name up has none at all. Here one limit is for all of it: name, connection, TLS, head of the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from typing import Final

import h11
from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

_READ_BYTES: Final = 1 << 16
_NEXT_ADDRESS_SECONDS: Final = 0.25
"""After so long the next address of a name is tried beside the one before, as RFC 8305 has it."""


def post(url: str, headers: Mapping[str, str], body: bytes, seconds: float) -> str:
    """Send a body; return what went wrong, "" where it was taken (2xx). What is answered behind the head is not read.

    Args:
        url: with http or https; a redirection is not followed.
        headers: beside those of the connection.
        body: what is sent.
        seconds: for all of it.
    """
    loop = asyncio.new_event_loop()
    try:
        status = loop.run_until_complete(_within(seconds, parse_url(url), headers, body))
    except TimeoutError:
        return f"TimeoutError: no answer within {seconds:g} seconds"
    except (OSError, ValueError, LocationParseError, h11.ProtocolError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        # As asyncio.run ends, but without waiting for a thread that looks a name up: that ends when the resolver does.
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    return "" if 200 <= status < 300 else f"status {status}"


async def _within(seconds: float, url: Url, headers: Mapping[str, str], body: bytes) -> int:
    async with asyncio.timeout(seconds):
        return await _post(url, headers, body)


async def _post(url: Url, headers: Mapping[str, str], body: bytes) -> int:
    """Return the status of the answer."""
    secure = url.scheme == "https"
    reader, writer = await asyncio.open_connection(
        (url.host or "").strip("[]"),
        url.port or (443 if secure else 80),
        ssl=ssl.create_default_context() if secure else None,
        happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS,
    )
    try:
        about = {"Host": url.netloc or "", "Content-Length": str(len(body)), "Connection": "close"}
        request = h11.Request(method="POST", target=url.request_uri, headers=[*about.items(), *headers.items()])
        exchange = h11.Connection(h11.CLIENT)
        for event in (request, h11.Data(body), h11.EndOfMessage()):
            writer.write(exchange.send(event) or b"")
        while True:
            answer = exchange.next_event()
            if answer is h11.NEED_DATA:
                exchange.receive_data(await reader.read(_READ_BYTES))
            elif isinstance(answer, h11.Response):
                return answer.status_code
            elif not isinstance(answer, h11.InformationalResponse):
                raise ConnectionResetError("closed without an answer")
    finally:
        with contextlib.suppress(OSError):
            writer.transport.abort()
