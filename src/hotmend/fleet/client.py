"""The API of a server, typed: what goes in and out are the values of `wire`."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import urllib3

from hotmend import __version__
from hotmend.model.errors import HotmendError, InputError, RemoteError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
_SECONDS: Final = 30.0
_NONE: Final[Mapping[str, str]] = {}
_ANSWER_BYTES_MAX: Final = 64 << 20
_PART_BYTES: Final = 1 << 16


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


class Page(Protocol[T_co]):
    """A page of a list."""

    @property
    def items(self) -> Sequence[T_co]:
        """What is on it."""
        ...

    @property
    def next(self) -> str:
        """The cursor of the page after, "" at the end."""
        ...


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

    def parts(self, path: str) -> Iterator[bytes]:
        """Yield the parts of a file at a path below /api/v1, of whatever size; raises as `get`, in the middle, too."""
        with self._asked("GET", path, None, {}) as answer:
            if answer.status != 200:
                _read(answer.status, answer.read(_ANSWER_BYTES_MAX), type(None), self.url)
            yield from answer.stream(_PART_BYTES)

    def each(self, path: str, kind: type[Page[T]], **query: object) -> Iterator[T]:
        """Yield all that is on a list, page after page; raises as `get`."""
        cursor = ""
        while True:
            page = self.get(path, kind, **query, cursor=cursor)
            yield from page.items
            cursor = page.next
            if not cursor:
                return

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
        data = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
        with self._asked(method, path, data, given) as answer:
            content = answer.read(_ANSWER_BYTES_MAX + 1)
        if len(content) > _ANSWER_BYTES_MAX:
            raise RemoteError(f"{self.url}: more than {_ANSWER_BYTES_MAX} bytes")
        return _read(answer.status, content, kind, self.url)

    @contextmanager
    def _asked(
        self, method: str, path: str, data: bytes | None, given: Mapping[str, str]
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Give an answer to be read."""
        if not self.url.startswith(("http://", "https://")):  # the library would guess, and send the token in the clear
            raise RemoteError(f"not the address of a server: {self.url}", "it begins with https:// or http://")
        headers = {"Accept": "application/json", "User-Agent": f"hotmend/{__version__}", **given}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if data is not None:
            headers["Content-Type"] = "application/json"
        try:
            options: dict[str, Any] = {"cert_reqs": ssl.CERT_REQUIRED}
            if self.authorities:
                options["ca_certs"] = self.authorities
            with urllib3.PoolManager(1, **options) as pool:
                yield pool.request(
                    method,
                    f"{self.url.rstrip('/')}/api/v1{path}",
                    body=data,
                    headers=headers,
                    timeout=urllib3.Timeout(_SECONDS),
                    retries=False,
                    redirect=False,
                    preload_content=False,
                )
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise RemoteError(f"{self.url}: {error}", "is the server running, and is its URL right?") from error


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
