"""Pictures of the portal's pages, for people to look at: `python -m tests.server.portal.pictures FOLDER [--docs]`.

Every page of a fleet with something on it: desktop, light, English; and phone, dark, German. With `--docs` those of
docs/server.md are made anew.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, BrowserContext, sync_playwright

from hotmend.server.compliance import daily
from hotmend.server.database import open_database
from hotmend.wire.report import Finding, Fixed
from tests.server.fleet import begun, wanted
from tests.server.machine import report
from tests.server.portal.conftest import Fleet, fleet_in
from tests.server.portal.test_pages import PLAN, operator_paths, paths

DOCS: Final = Path(__file__).parents[3] / "docs"
DAY: Final = datetime(2025, 10, 27, 12, tzinfo=UTC)
"""On which the facts of the Windows machines were taken."""
PAST_DAYS: Final = 40
RINGS: Final = [{"name": "canary", "percent": 30}, {"name": "rest"}]
DESKTOP: Final[Mapping[str, Any]] = {"viewport": {"width": 1280, "height": 900}, "locale": "en-GB"}
PHONE: Final[Mapping[str, Any]] = {
    "viewport": {"width": 360, "height": 740},
    "locale": "de-DE",
    "color_scheme": "dark",
    "device_scale_factor": 2,
}


@contextmanager
def _fleet() -> Iterator[Fleet]:
    """Give a fleet that has been looked after for some weeks."""
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "template.db"
        open_database(f"sqlite:///{template}").close()
        with fleet_in(Path(folder) / "fleet.db", {"sqlite": str(template)}, DAY - datetime.now(UTC)) as fleet:
            _weeks(fleet)
            _work(fleet)
            yield fleet


def _weeks(fleet: Fleet) -> None:
    """Let days pass on which machines report less and less old code."""
    server, web, ahead = fleet.server, fleet.machines["web-2"], fleet.server.clock.ahead
    server.clock.ahead = ahead - timedelta(days=PAST_DAYS)
    old = [
        Finding(f"CVE-2025-{each:04}", Fixed.NOWHERE, 7, "nginx", "nginx.service", "/usr/sbin/nginx", "nginx=1")
        for each in range(9)
    ]
    for day in range(PAST_DAYS):
        server.clock.ahead = ahead - timedelta(days=PAST_DAYS - day)
        if day % 5 == 0:
            web.check_in(report=report(findings=tuple(old[: max(0, 9 - day // 4)])))
        daily.take(server.app.state.context)
    server.clock.ahead = ahead


def _work(fleet: Fleet) -> None:
    server = fleet.server
    for name in ("web-1", "web-2", "db-1"):
        fleet.machines[name].check_in()
    begun(server, name="openssl, October", rings=RINGS)
    server.post("/api/v1/rollouts", wanted("nginx, November", rings=RINGS), role="operator")
    server.post("/api/v1/webhooks", {"url": "http://127.0.0.1:9/a/rather/long/path/of/somebody/who/wants/to/know"})
    server.post("/api/v1/tokens", {"name": "nightly export of compliance"})
    server.post("/api/v1/registration-keys", {"name": "berlin", "tags": {"site": "berlin"}, "uses": 20})


def _pages(fleet: Fleet) -> list[str]:
    (rollout, waits) = (each["id"] for each in reversed(fleet.server.get("/api/v1/rollouts")["items"]))
    more = [f"/rollouts/{rollout}", f"/rollouts/{waits}", f"/rollouts/{waits}/preview", f"/rollouts/new?{PLAN}"]
    return [*paths(fleet), *operator_paths(fleet), *more, "/users", "/webhooks", "/maintenance/configuration"]


def _signed_in(browser: Browser, fleet: Fleet, role: str, options: Mapping[str, Any]) -> BrowserContext:
    context = browser.new_context(base_url=fleet.server.url, **options)
    page = context.new_page()
    page.goto("/sign-in")
    page.locator("#token").fill(fleet.server.tokens[role])
    page.locator("form:has(#token) button").click()
    page.close()
    return context


def _name(path: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"[0-9a-f]{32}", "ID", path).lower()).strip("-")[:80] or "overview"


def _take(browser: Browser, fleet: Fleet, folder: Path) -> None:
    for kind, options in (("desktop", DESKTOP), ("phone", PHONE)):
        context = _signed_in(browser, fleet, "admin", options)
        page = context.new_page()
        for number, path in enumerate(_pages(fleet)):
            answer = page.goto(path)
            assert answer is not None, path
            assert answer.status == 200, path
            wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
            print(f"{number:02} {kind} {path}" + (f": {wide} px wider than the window" if wide > 0 else ""))
            page.screenshot(
                path=str(folder / f"{kind}-{number:02}-{_name(path)}.jpg"), type="jpeg", quality=80, full_page=True
            )
        context.close()


def _document(browser: Browser, fleet: Fleet) -> None:
    """Make the pictures of docs/server.md."""
    listed = fleet.server.get("/api/v1/machines?platform=windows")["items"]
    windows = next(each["id"] for each in listed if each["name"] == "october-2-right")
    german = {**DESKTOP, "locale": "de-DE"}
    wanted_ = (
        ("overview", "/", DESKTOP),
        ("machine", f"/machines/{windows}", german),
        ("phone", f"/machines/{fleet.machines['web-1'].id}?tab=compliance", PHONE),
    )
    for name, path, options in wanted_:
        context = _signed_in(browser, fleet, "operator", options)
        page = context.new_page()
        page.goto(path)
        page.screenshot(path=str(DOCS / f"portal-{name}.jpg"), type="jpeg", quality=80, full_page=options is PHONE)
        context.close()


def main() -> None:
    """Take all pictures."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    program = shutil.which("chromium")
    assert program, "chromium is not installed: make setup"
    with _fleet() as fleet, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        _take(browser, fleet, folder)
        if "--docs" in sys.argv[2:]:
            _document(browser, fleet)
        browser.close()


if __name__ == "__main__":
    main()
