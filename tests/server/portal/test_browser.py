"""The portal in a real browser: named tasks by keyboard alone, and accessibility of every page as it is painted."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from hotmend.wire.evidence import verified
from tests.server.fleet import wanted
from tests.server.machine import report
from tests.server.portal.conftest import CASES, Fleet
from tests.server.portal.test_pages import operator_paths, paths
from tests.server.running import PASSWORD

SERIOUS = {"serious", "critical"}
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
TABS_MAX = 150
_WAIT_MS_MAX = 120_000
"""For what a page shows: a machine with other work takes its time."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    assert program, "chromium is not installed: make setup"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


def visitor(browser: Browser, fleet: Fleet, **options: Any) -> BrowserContext:
    """Return a window of somebody who has not signed in; what it loads from elsewhere, or logs as an error, fails."""
    context = browser.new_context(base_url=fleet.server.url, **({"viewport": DESKTOP, "locale": "en-GB"} | options))
    context.set_default_timeout(_WAIT_MS_MAX)
    wrong: list[str] = []
    context.on("request", lambda asked: None if asked.url.startswith(fleet.server.url) else wrong.append(asked.url))
    context.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    context.on("close", lambda _: _nothing(wrong))
    return context


def _nothing(wrong: list[str]) -> None:
    assert wrong == []


class Hands:
    """Somebody with a keyboard and without a mouse."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def to(self, name: str) -> None:
        """Go to the control of this name, as one does: with the Tab key, until it has the focus."""
        for _ in range(TABS_MAX):
            self.page.keyboard.press("Tab")
            if self.page.evaluate(_FOCUSED) == name:
                box = self.page.evaluate(_OUTLINE)
                assert box != "none", f"{name} does not show that it has the focus"
                return
        raise AssertionError(f"no {name} within {TABS_MAX} steps of the Tab key on {self.page.url}")

    def press(self, name: str, key: str = "Enter") -> None:
        """Go to a control and press it; the page that follows is there when this returns."""
        self.to(name)
        with self.page.expect_navigation():
            self.page.keyboard.press(key)

    def write(self, name: str, text: str) -> None:
        """Go to a field and fill it."""
        self.to(name)
        self.page.keyboard.press("Control+a")
        self.page.keyboard.type(text)

    def reads(self, text: str) -> None:
        """Hold that a text is on the page, in sight; a script may have yet to put it there."""
        expect(self.page.get_by_text(text).first).to_be_visible(timeout=_WAIT_MS_MAX)


_FOCUSED = """() => {
  const e = document.activeElement;
  const label = e.labels && e.labels.length ? e.labels[0].innerText : "";
  return (label || e.innerText || "").trim().replace(/\\s+/g, " ");
}"""
_OUTLINE = "() => getComputedStyle(document.activeElement).outlineStyle"


def signed_in(context: BrowserContext, fleet: Fleet, role: str) -> Hands:
    hands = Hands(context.new_page())
    hands.page.goto("/")
    hands.write("API token", fleet.server.tokens[role])
    hands.press("Sign in with the token")
    hands.reads("Needs a decision")
    return hands


def signed_in_without_script(context: BrowserContext, fleet: Fleet) -> Hands:
    """Sign in where nothing can be asked of the page: the keyboard alone would not tell where it is."""
    hands = Hands(context.new_page())
    hands.page.goto("/sign-in")
    hands.page.locator("#token").fill(fleet.server.tokens["viewer"])
    hands.page.locator("form:has(#token) button").click()
    hands.reads("Needs a decision")
    return hands


def test_tasks_of_an_operator_by_keyboard(browser: Browser, fleet: Fleet) -> None:
    machine = fleet.machines["web-1"]
    machine.check_in(report=report(waiting=("openssl=3.0.17-1~deb12u4", "nginx=1.22.1-9+deb12u3")))
    context = visitor(browser, fleet)
    hands = signed_in(context, fleet, "operator")  # 1: sign in
    hands.page.keyboard.press("Tab")
    assert hands.page.evaluate(_FOCUSED) == "Skip to the content"
    hands.press("Machines")  # 2: find a machine
    hands.write("Name contains", "web-1")
    hands.press("Show")
    hands.reads("Found: 1")
    hands.press("web-1")  # 3: see where it stands
    hands.reads("Hotpatch status")
    hands.press("Assess now")  # 4: assess, and take it back
    hands.reads("The assessment is planned")
    hands.press("assessment")
    hands.press("Cancel the action")
    hands.reads("The action is canceled.")
    hands.press("Install updates now")  # 5: install, with the forecast seen first
    hands.write("Exclude; excludes win", "nginx*")
    hands.press("Show the forecast")
    hands.reads("Excluded by nginx*; excludes win.")
    hands.reads("not availability-first")
    hands.write("Reason", "the vulnerability of today")
    hands.press("Install now")
    hands.reads("The installation is planned")
    assert machine.check_in().orders[0].updates == ("openssl=3.0.17-1~deb12u4",)
    hands.press("Status")  # 6: tag it
    hands.write("One a line: name=value", "set=web\nowner=ann")
    hands.press("Save")
    hands.reads("The tags are saved.")
    hands.press("Update compliance")  # 7: see which process runs what
    hands.reads("CVE-2026-0002")
    hands.press("Overview")  # 8: halt the fleet, and let it go on
    hands.write("Reason", "something crashes")
    hands.press("Halt the fleet")
    hands.reads("Halted: nothing new begins anywhere.")
    assert machine.check_in().halted == "something crashes"
    hands.press("End the halt")
    assert machine.check_in().halted == ""
    hands.press("Releases")  # 9: see what comes when
    hands.to("Channel")
    hands.page.keyboard.press("End")
    hands.press("Show")
    hands.press("Audit")  # 10: see who did it
    hands.reads("action.install")
    hands.press("Deutsch")  # 11: read German
    hands.reads("Wovon")
    hands.press("Abmelden")
    hands.reads("Oder mit einem API-Token")
    context.close()


def test_tasks_of_an_approver_by_keyboard(browser: Browser, fleet: Fleet) -> None:
    rings = [{"name": "canary", "percent": 40}, {"name": "rest"}]
    fleet.server.post("/api/v1/rollouts", wanted(name="November", lane="normal", rings=rings))
    context = visitor(browser, fleet, viewport=PHONE)
    hands = signed_in(context, fleet, "approver")
    hands.press("Rollout November: waits for approval")
    hands.press("Approve this plan")
    hands.reads("The plan is approved by you.")
    hands.write("Reason", "not today")
    hands.press("Stop")
    hands.reads("not today")
    context.close()


def test_tasks_of_planning_by_keyboard(browser: Browser, fleet: Fleet, tmp_path: Path) -> None:
    context = visitor(browser, fleet)
    hands = signed_in(context, fleet, "approver")
    hands.press("Rollouts")  # 1: plan a rollout, with what it would do seen first
    hands.press("New rollout")
    hands.write("Name", "by keyboard")
    hands.write("Ring 1: tag, domain, tier or percentage", "40")
    hands.press("Show what it would do")
    hands.reads("Nothing begins by this")
    hands.press("Plan this rollout")
    hands.reads("The rollout is planned; it waits for approval.")
    hands.press("Maintenance")  # 2: make a maintenance configuration, with its windows seen first
    hands.press("New configuration")
    hands.write("Name", "Sundays")
    hands.write("Window 1: name", "Sunday night")
    hands.write("Window 1: rule", "FREQ=WEEKLY;BYDAY=SU")
    hands.press("Show the forecast")
    hands.reads("Sunday night: ")
    hands.press("Keep this configuration")
    hands.reads("The configuration is kept")
    hands.write("Tag: name=value, or name", "site=ulm")  # 3: assign one, with whom it concerns seen first
    hands.press("Show whom it would concern")
    hands.reads("No machine would have another configuration than now.")
    hands.press("Assign")
    hands.reads("The configuration is assigned")
    hands.press("Dynamic scopes")  # 4: make a dynamic scope, with how many match seen first
    hands.write("Name", "keyboards")
    hands.write("Name contains", "web-1")
    hands.press("Show which machines")
    hands.reads("machines that match now: 1.")
    hands.press("Keep the scope keyboards")
    hands.reads("The scope is kept.")
    hands.press("approver (approver)")  # 5: make an API token
    hands.write("Name", "from the keyboard")
    hands.press("Make the token")
    hands.reads("It is shown this once.")
    hands.press("Compliance")  # 6: see compliance over time, and take evidence along
    hands.press("Over time")
    hands.reads("machines with old code")
    hands.press("Signed evidence")
    hands.to("Make the file")
    with hands.page.expect_download() as begun:
        hands.page.keyboard.press("Enter")
    begun.value.save_as(tmp_path / "evidence.json")
    key = fleet.server.get("/api/v1/compliance/evidence-key")["key"]
    evidence = verified((tmp_path / "evidence.json").read_bytes(), key)
    assert evidence is not None
    assert evidence.made_by == "approver"
    hands.press("Add machines")  # 7: send the facts of a Windows server
    hands.write("Name of the machine", "win-by-keyboard")
    hands.page.set_input_files("#file", CASES / "october-2-right.json")  # its dialog is the browser's own
    hands.press("Send the facts")
    hands.reads("The facts are kept and judged.")
    hands.press("Releases")  # 8: see what was released
    hands.reads("Releases and calendar")
    context.close()


def test_tasks_of_an_administrator_by_keyboard(browser: Browser, fleet: Fleet) -> None:
    context = visitor(browser, fleet, viewport=PHONE)
    hands = signed_in(context, fleet, "admin")
    hands.press("Users")  # 9: add a user, and shut the user out
    hands.write("Name", "mary")
    hands.write("Password", PASSWORD)
    hands.press("Add the user")
    hands.reads("The user is added.")
    hands.to("May mary come in?")
    hands.page.keyboard.press("End")
    hands.press("Change")
    hands.reads("The user is changed")
    assert {each["name"]: each["disabled"] for each in fleet.server.get("/api/v1/users")["items"]}["mary"] is True
    assert _findings(hands.page) == []
    hands.press("Audit")  # 10: verify the record
    hands.press("Verify the whole record")
    hands.reads("Rows that follow from each other")
    context.close()


def test_the_page_of_a_rollout_lives_and_keeps_the_focus(browser: Browser, fleet: Fleet) -> None:
    rings = [{"name": "canary", "percent": 40}, {"name": "rest"}]
    made = fleet.server.post("/api/v1/rollouts", wanted(name="live", lane="normal", rings=rings))
    context = visitor(browser, fleet)
    page = signed_in(context, fleet, "operator").page
    page.goto(f"/rollouts/{made['id']}")
    page.focus("#by-itself")
    yes = {"plan": made["plan"]}
    fleet.server.post(f"/api/v1/rollouts/{made['id']}/approve", yes, role="approver", status=200)
    page.get_by_text("The rollout is in another state by now:").wait_for()
    assert page.locator("#live .badge").first.inner_text() == "ready"
    assert page.evaluate("document.activeElement.id") == "by-itself"
    # What can be done changes with the whole page alone.
    assert page.get_by_role("button", name="Start", exact=True).count() == 0
    page.get_by_role("link", name="show what can be done").click()
    page.get_by_role("button", name="Start", exact=True).wait_for()
    fleet.server.post(f"/api/v1/rollouts/{made['id']}/stop", {"reason": "enough"}, role="operator", status=200)
    page.get_by_text("enough").first.wait_for()
    context.close()
    without = visitor(browser, fleet, java_script_enabled=False)
    page = signed_in_without_script(without, fleet).page
    page.goto(f"/rollouts/{made['id']}")
    assert page.get_by_text("enough").first.is_visible()
    without.close()


@pytest.mark.parametrize(("width", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_no_page_has_a_serious_accessibility_finding(browser: Browser, fleet: Fleet, width: str, scheme: str) -> None:
    if not fleet.server.get("/api/v1/rollouts")["items"]:
        fleet.server.post(
            "/api/v1/rollouts", wanted(lane="normal", rings=[{"name": "canary", "percent": 40}, {"name": "rest"}])
        )
    rollout = fleet.server.get("/api/v1/rollouts")["items"][0]["id"]
    context = visitor(browser, fleet, viewport=PHONE if width == "phone" else DESKTOP, color_scheme=scheme)
    page = context.new_page()
    page.goto("/sign-in")
    found = _findings(page)
    page.close()
    page = signed_in(context, fleet, "approver").page
    for path in (*_different(fleet), f"/rollouts/{rollout}"):
        page.goto(path)
        found += _findings(page)
    assert found == []
    context.close()


def _different(fleet: Fleet) -> list[str]:
    """Return one page of each kind, with the most on it."""
    alike = (f"/machines/{fleet.windows}?tab=compliance", f"/machines/{fleet.machines['db-1'].id}?")
    each = [path for path in (*paths(fleet), *operator_paths(fleet)) if not path.startswith(alike)]
    return [path for path in each if not path.startswith("/machines?")]


def _findings(page: Page) -> list[str]:
    page.evaluate(AXE_SCRIPT)
    result = page.evaluate("() => axe.run({resultTypes: ['violations']})")
    wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    found = [f"{page.url}: {wide} pixels wider than the window"] if wide > 0 else []
    for each in result["violations"]:
        if each["impact"] in SERIOUS:
            found += [f"{page.url}: {each['id']}: {node['html'][:200]}" for node in each["nodes"][:3]]
    return found
