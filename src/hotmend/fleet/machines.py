"""Machines, keys and tokens of a server, as functions."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from urllib.parse import urlencode

from hotmend.fleet.client import Client, segment
from hotmend.wire.api import (
    Action,
    ActionPage,
    ActionWanted,
    Forecast,
    KeyWanted,
    Machine,
    MachineDetail,
    MachineEvent,
    MachineEventPage,
    MachinePage,
    Me,
    Query,
    RegistrationKey,
    RegistrationKeyPage,
    Scope,
    ScopePage,
    ScopeWanted,
    Tags,
    Token,
    TokenPage,
    TokenWanted,
    User,
    UserChange,
    UserPage,
    UserWanted,
)


@dataclass(frozen=True, slots=True)
class Machines:
    """Machines of one server, and who may join or ask. Everything raises as `Client.get`."""

    _client: Client

    # --- who ----------------------------------------------------------------------------------------------

    def me(self) -> Me:
        """Return who this is."""
        return self._client.get("/me", Me)

    def users(self) -> Iterator[User]:
        """Yield all users by name."""
        return self._client.each("/users", UserPage, limit=500)

    def add_user(self, wanted: UserWanted) -> User:
        """Add a user."""
        return self._client.create("/users", wanted, User)

    def change_user(self, identity: str, change: UserChange) -> User:
        """Change a user's role or password, or disable it; what is None stays."""
        return self._client.patch(f"/users/{segment(identity)}", change, User)

    def tokens(self) -> Iterator[Token]:
        """Yield one's own tokens, newest first; an administrator sees all."""
        return self._client.each("/tokens", TokenPage, limit=500)

    def add_token(self, wanted: TokenWanted) -> Token:
        """Make a token."""
        return self._client.create("/tokens", wanted, Token)

    def revoke_token(self, identity: str) -> None:
        """End a token."""
        self._client.delete(f"/tokens/{segment(identity)}")

    def keys(self) -> Iterator[RegistrationKey]:
        """Yield all registration keys, newest first."""
        return self._client.each("/registration-keys", RegistrationKeyPage, limit=500)

    def add_key(self, wanted: KeyWanted) -> RegistrationKey:
        """Make a registration key."""
        return self._client.create("/registration-keys", wanted, RegistrationKey)

    def revoke_key(self, identity: str) -> None:
        """End a registration key."""
        self._client.delete(f"/registration-keys/{segment(identity)}")

    # --- machines -----------------------------------------------------------------------------------------

    def machines(self, query: Query = Query(), scope: str = "", limit: int = 500) -> Iterator[Machine]:  # noqa: B008
        """Yield the machines that match, by name, page after page."""
        asked = [(name, value) for name, value in _asked(query)] + ([("scope", scope)] if scope else [])
        cursor = ""
        while True:
            given = [*asked, ("limit", str(limit)), *([("cursor", cursor)] if cursor else [])]
            page = self._client.get(f"/machines?{urlencode(given)}", MachinePage)
            yield from page.items
            cursor = page.next
            if not cursor:
                return

    def machine(self, identity: str) -> MachineDetail:
        """Return one machine."""
        return self._client.get(f"/machines/{segment(identity)}", MachineDetail)

    def machine_events(self, identity: str, limit: int = 100) -> list[MachineEvent]:
        """Return what happened to a machine, newest first."""
        return self._client.get(f"/machines/{segment(identity)}/events?limit={limit}", MachineEventPage).items

    def put_tags(self, identity: str, tags: Mapping[str, str], version: int | None = None) -> Tags:
        """Give a machine these tags and no other; with `version`, where nobody has changed it since."""
        match = {"If-Match": f'"{version}"'} if version is not None else {}
        return self._client.put(f"/machines/{segment(identity)}/tags", Tags(dict(tags)), Tags, match)

    def approve(self, identity: str) -> MachineDetail:
        """Let a machine take part."""
        return self._client.post(f"/machines/{segment(identity)}/approve", {}, MachineDetail)

    def remove(self, identity: str) -> None:
        """Let a machine go."""
        self._client.delete(f"/machines/{segment(identity)}")

    def forecast(self, identity: str, updates: Sequence[str] = ()) -> Forecast:
        """Return what installing now would bring."""
        asked = urlencode([("update", update) for update in updates])
        return self._client.get(f"/machines/{segment(identity)}/forecast?{asked}", Forecast)

    def act(self, identity: str, wanted: ActionWanted, key: str = "") -> Action:
        """Plan an action, once, however often it has to be sent; `key` names it, and is made up where it is ""."""
        headers = {"Idempotency-Key": key or secrets.token_hex(16)}
        return self._client.post(f"/machines/{segment(identity)}/actions", wanted, Action, headers)

    def actions(self, identity: str) -> Iterator[Action]:
        """Yield a machine's actions, newest first."""
        return self._client.each(f"/machines/{segment(identity)}/actions", ActionPage, limit=500)

    def action(self, identity: str) -> Action:
        """Return an action with its steps."""
        return self._client.get(f"/actions/{segment(identity)}", Action)

    def cancel(self, identity: str) -> Action:
        """Cancel an action that the machine has not been told of."""
        return self._client.post(f"/actions/{segment(identity)}/cancel", {}, Action)

    def upload(self, name: str, facts: bytes) -> MachineDetail:
        """Keep the facts of a machine without an agent."""
        return self._client.put(f"/facts/{segment(name)}", facts, MachineDetail)

    def scopes(self) -> Iterator[Scope]:
        """Yield all dynamic scopes by name."""
        return self._client.each("/scopes", ScopePage, limit=500)

    def add_scope(self, wanted: ScopeWanted) -> Scope:
        """Save a query under a name."""
        return self._client.create("/scopes", wanted, Scope)

    def remove_scope(self, name: str) -> None:
        """Forget a scope. Machines stay as they are."""
        self._client.delete(f"/scopes/{segment(name)}")


def _asked(query: Query) -> Iterator[tuple[str, str]]:
    for name, value in asdict(query).items():
        if name == "tags":
            yield from (("tag", f"{tag}={text}" if text else tag) for tag, text in value.items())
        elif isinstance(value, bool):
            yield name, str(value).lower()
        elif value:
            yield name, value
