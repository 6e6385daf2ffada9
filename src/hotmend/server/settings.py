"""What a server is told when it is started."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a server process.

    Attributes:
        database: SQLAlchemy URL of SQLite or PostgreSQL.
        host, port: where it listens.
        url: how machines and people reach it; "" for where it listens.
        check_in_seconds: between two check-ins of a machine.
        policy_days: a policy is good for so long without a server.
        requests_per_minute: of one caller of the API, in one server process.
        enrolments_per_minute: from one address, in one server process.
        check_ins_per_minute: of one machine, in one server process.
        refusals_per_minute: to one address, in one server process, before who is not known is not looked at.
        trusted_proxies: addresses and networks whose X-Forwarded-For is believed.
        secure_cookies: sessions are only sent over HTTPS.
    """

    database: str
    host: str = "127.0.0.1"
    port: int = 8470
    url: str = ""
    check_in_seconds: int = 60
    policy_days: int = 14
    requests_per_minute: int = 1200
    enrolments_per_minute: int = 600
    check_ins_per_minute: int = 240
    refusals_per_minute: int = 600
    trusted_proxies: tuple[str, ...] = ()
    secure_cookies: bool = False

    @property
    def public_url(self) -> str:
        """How machines and people reach it."""
        return self.url.rstrip("/") or f"http://{self.host}:{self.port}"

    @property
    def proxy_options(self) -> dict[str, Any]:
        """What uvicorn is told of proxies: without this it believes any process of this machine."""
        return {"proxy_headers": bool(self.trusted_proxies), "forwarded_allow_ips": list(self.trusted_proxies)}

    @property
    def policy_life(self) -> timedelta:
        """How long a policy is good for."""
        return timedelta(days=self.policy_days)
