"""The API of a server, typed: what goes in and out are the values of `wire`."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import urllib3

from hotmend import __version__
from hotmend.model.errors import HotmendError, InputError, RemoteError

T = TypeVar("T")
_SECONDS: Final = 30.0
_NONE: Final[Mapping[str, str]] = {}
_ANSWER_BYTES_MAX: Final = 64 << 20


class _Problem(msgspec.Struct):
    detail: str = ""
    code: str = ""
    hint: str = ""


class ServerRefusal(HotmendError):
    """A server does not do what was asked.

    Attributes:
        status: of HTTP.
        code: of the server: words with `-` between.
    """

    def __init__(self, status: int, code: str, text: str, hint: str) -> None:
        super().__init__(text, hint)
        self.status, self.code = status, code

    @property
    def by_a_rule(self) -> bool:
        """Whether a rule says no, or something is not in the state for it; the same request may succeed later."""
        return self.status in (409, 412, 422, 428)


@dataclass(frozen=True, slots=True)
class Client:
    """Calls to one server.

    Attributes:
        url: of it, without a path.
        token: of the API; "" for nobody.
        authorities: file with the certificates that are trusted; "" for the system's.
    """

    url: str
    token: str = ""
    authorities: str = ""

    def get(self, path: str, kind: type[T], **query: object) -> T:
        """Return what is at a path below /api/v1.

        Raises:
            ServerRefusal: the server says no.
            RemoteError: it does not answer, or not in this form.
        """
        asked = {name: str(value) for name, value in query.items() if value not in ("", None)}
        return self._ask("GET", f"{path}?{urlencode(asked)}" if asked else path, None, kind)

    def post(self, path: str, body: object, kind: type[T], headers: Mapping[str, str] = _NONE) -> T:
        """Ask for something to be done, and return the answer; raises as `get`."""
        return self._ask("POST", path, body, kind, headers)

    def create(self, path: str, body: object, kind: type[T]) -> T:
        """Ask for something to be made, once even where the request comes to the server twice; raises as `get`."""
        return self.post(path, body, kind, {"Idempotency-Key": secrets.token_hex(16)})

    def put(self, path: str, body: object, kind: type[T], headers: Mapping[str, str] = _NONE) -> T:
        """Put something in the place of what is there; raises as `get`. Bytes are sent as they are."""
        return self._ask("PUT", path, body, kind, headers)

    def patch(self, path: str, body: object, kind: type[T]) -> T:
        """Change a part of something; raises as `get`."""
        return self._ask("PATCH", path, body, kind)

    def delete(self, path: str) -> None:
        """Remove something; raises as `get`."""
        self._ask("DELETE", path, None, type(None))

    def _ask(self, method: str, path: str, body: object, kind: type[T], given: Mapping[str, str] = _NONE) -> T:
        headers = {"Accept": "application/json", "User-Agent": f"hotmend/{__version__}", **given}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else msgspec.json.encode(body)
            headers["Content-Type"] = "application/json"
        try:
            options: dict[str, Any] = {"cert_reqs": ssl.CERT_REQUIRED}
            if self.authorities:
                options["ca_certs"] = self.authorities
            with urllib3.PoolManager(1, **options) as pool:
                answer = pool.request(
                    method,
                    f"{self.url.rstrip('/')}/api/v1{path}",
                    body=data,
                    headers=headers,
                    timeout=urllib3.Timeout(_SECONDS),
                    retries=False,
                    redirect=False,
                    preload_content=False,
                )
                content = answer.read(_ANSWER_BYTES_MAX + 1)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise RemoteError(f"{self.url}: {error}", "is the server running, and is its URL right?") from error
        if len(content) > _ANSWER_BYTES_MAX:
            raise RemoteError(f"{self.url}: more than {_ANSWER_BYTES_MAX} bytes")
        return _read(answer.status, content, kind, self.url)


def _read(status: int, content: bytes, kind: type[T], url: str) -> T:
    try:
        if 200 <= status < 300:
            return msgspec.json.decode(content or b"null", type=kind)
        problem = msgspec.json.decode(content, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteError(f"{url}: status {status}, and not an answer of this API: {error}") from error
    raise ServerRefusal(status, problem.code, problem.detail or f"status {status}", problem.hint)


def segment(text: str) -> str:
    """Return a text as one part of a path.

    Raises:
        InputError: it is none.
    """
    if not text or text in (".", ".."):
        raise InputError("an id is needed")
    return quote(text, safe="")
