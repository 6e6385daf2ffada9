"""One visit of a page: who looks, in which language, and how a page is made for them.

A page's endpoint takes `visit: Annotated[Visit, Depends(seeing("viewer"))]`; one that changes something takes
`doing(...)`, which holds the form against the session's CSRF token.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from http import HTTPStatus
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

from fastapi import Form
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from hotmend import __version__
from hotmend.server.context import Context, context_of
from hotmend.server.identity.access import COOKIE, Principal, admitted, csrf_is, principal
from hotmend.server.portal.language import NAMES, Words, language_of, words
from hotmend.server.problem import Problem, problem_of
from hotmend.servicing.message import N_

SECTIONS: Final = (
    ("/", N_("Overview"), "viewer"),
    ("/machines", N_("Machines"), "viewer"),
    ("/keys", N_("Add machines"), "operator"),
    ("/rollouts", N_("Rollouts"), "viewer"),
    ("/maintenance", N_("Maintenance"), "viewer"),
    ("/compliance", N_("Compliance"), "viewer"),
    ("/issues", N_("Known issues"), "viewer"),
    ("/calendar", N_("Releases"), "viewer"),
    ("/audit", N_("Audit"), "operator"),
    ("/webhooks", N_("Webhooks"), "admin"),
    ("/users", N_("Users"), "admin"),
)
"""Path, name and least role of what the navigation shows."""

DONE: Final = {
    "assess": N_("The assessment is planned; it begins at the machine's next check-in."),
    "install": N_("The installation is planned; it begins at the machine's next check-in."),
    "revert": N_("The revert is planned; it begins at the machine's next check-in."),
    "quarantine": N_("The quarantine is planned; it begins at the machine's next check-in."),
    "lift": N_("The end of the quarantine is planned; it begins at the machine's next check-in."),
    "canceled": N_("The action is canceled."),
    "key-revoked": N_("The key is revoked. Machines that came with it stay."),
    "approved": N_("The machine is approved."),
    "offboarded": N_("The machine is offboarded."),
    "tags": N_("The tags are saved."),
    "facts": N_("The facts are kept and judged."),
    "rollout-made": N_("The rollout is planned; it waits for approval."),
    "rollout-answered": N_("The answer is kept."),
    "configuration": N_("The configuration is kept; machines get it at their next check-in."),
    "slot-freed": N_("The slot is free."),
    "window-answered": N_("The word for the window is kept."),
    "rollout-scheduled": N_("The rollout begins by itself at this time."),
    "rollout-unscheduled": N_("The rollout begins when somebody says so."),
    "configuration-removed": N_("The configuration is removed."),
    "freeze": N_("The days are frozen; machines get it at their next check-in."),
    "thawed": N_("The freeze is over; machines get it at their next check-in."),
    "assigned": N_("The configuration is assigned; machines get it at their next check-in."),
    "unassigned": N_("The assignment is taken back; machines get it at their next check-in."),
    "scope": N_("The scope is kept."),
    "scope-removed": N_("The scope is removed."),
    "user": N_("The user is added."),
    "user-changed": N_("The user is changed; sessions have ended."),
    "webhook": N_("The webhook is added."),
    "webhook-test": N_("The webhook is tried; its last requests say what came of it."),
    "webhook-removed": N_("The webhook is removed."),
    "token-revoked": N_("The token is revoked."),
    "rollout-approve": N_("The plan is approved by you."),
    "rollout-start": N_("The rollout starts."),
    "rollout-pause": N_("The rollout pauses: nothing new begins."),
    "rollout-resume": N_("The rollout goes on."),
    "rollout-stop": N_("The rollout is being stopped. What was done stays."),
    "rollout-roll-back": N_("The rollout is being taken back."),
    "halted": N_("Halted: no machine begins anything new from its next check-in on."),
    "released": N_("The halt is over."),
}
"""What a page says after something was done; `?done=` names it."""

ERRORS: Final = {
    "not-found": N_("There is no such page or thing."),
    "role": N_("Your role is not enough for this."),
    "widens": N_("Machines may do more by this than before: an approver does that."),
    "csrf": N_("The form is not of this session, or the session has ended. Open the page again."),
    "changed": N_("Somebody has changed it meanwhile. Read it again."),
    "left": N_("The machine is offboarded already."),
    "not-waiting": N_("Nothing waits for approval here."),
    "too-often": N_("Too many requests. Wait a little."),
    "database": N_("The database does not answer. Try again."),
    "unexpected": N_("An error that nobody foresaw; the server's log says which."),
    "not-valid": N_("Something in the form is not valid."),
    "not-active": N_("The machine does not take part: it waits for approval, is suspect or offboarded."),
    "setup-token": N_("This is not the token that the server printed at its start."),
    "set-up": N_("This server has users already. Sign in."),
    "name": N_("A name has 1 to 100 letters, digits, blanks and . @ + - _"),
    "password": N_("A password has 12 to 200 characters."),
    "tags": N_("Not tags: small letters, digits, . _ - as names; values to 200 characters; at most 50."),
    "state": N_("The rollout is in another state by now, in which this cannot be done."),
    "plan-changed": N_("That is not the plan of this rollout. Look at it again."),
    "ring-failed": N_("A ring went wrong: stop the rollout or roll it back, and make a new one."),
    "forecast-first": N_("The forecast is another one by now. Look at it again."),
    "seed": N_("A seed has 1 to 64 letters, digits, - and _"),
    "seed-used": N_("A rollout was made with these machines already: open the form anew."),
    "url": N_("An address with http or https is needed, of at most 2000 characters."),
    "about": N_("A webhook is told of rollouts, of windows, or of both."),
    "no-agent": N_("The machine has no agent: its facts were uploaded."),
    "no-report": N_("The machine has not reported yet."),
    "too-late": N_("It is too late: the machine has been told."),
    "not-offered": N_("The machine does not say that these updates wait."),
    "cursor": N_("The list has no such page."),
    "slots": N_("0 to 100,000 restart slots, each of 10 to 1,440 minutes."),
    "start": N_("A start is ahead, and within a year."),
    "event-minutes": N_("A window is asked about 0 to 10,080 minutes before it opens."),
    "window-over": N_("The window is over."),
    "reason": N_("A reason has at most 500 characters."),
    "name-taken": N_("This name is taken."),
    "assigned": N_("A configuration is assigned there: take back the assignment first."),
    "selected": N_("A rollout that has not ended is of these machines: end it first."),
    "too-many": N_("Too many machines for one file: choose a tag or an operating system."),
    "too-large": N_("That is too large."),
    "last-admin": N_("Nobody would be left to administer this server."),
    "machine-unknown": N_("A machine that is meant is not active."),
    "lane": N_("An emergency only takes back: roll back the rollout, or revert on machines."),
    "has-agent": N_("A machine of this name has an agent that speaks for it."),
    "freeze": N_("A freeze has a name, ends on its first day or later, and every year leaves days free."),
    "priority-taken": N_("Another assignment has this priority."),
    "assignment": N_("An assignment is for a machine, a scope or a tag."),
    "not-asked": N_("Nobody waits for an answer to that any more."),
    "updates": N_("Updates are missing, too many, or not updates."),
    "minutes": N_("Minutes: 0 to 44640."),
    "days": N_("Days: 0 to 3660."),
    "emergency": N_("Only a revert is an emergency."),
    "undoes": N_("What is taken back whole is an installation of this machine, and by a revert."),
    "busy": N_("Too many machines at once. Try again."),
    "bad-request": N_("That cannot be read."),
    "idempotency-key": N_("This form was sent with other content before. Open it again."),
    "nobody-selected": N_("No machine is selected."),
    "canary-empty": N_("The first ring, the canary, has no machine."),
    "canary-everyone": N_("All machines are in the first ring: nobody would go first."),
}
"""Problems by code; what is not here is told in English, as the API tells it."""
_TOLD: Final = ("not-valid", "bad-request", "machine-unknown")
"""Of these the English sentence says which part is meant."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A page that somebody looks at.

    Attributes:
        request: of it.
        context: the server.
        caller: who; None: nobody has signed in.
        words: in the reader's language.
        now: the time of it.
    """

    request: Request
    context: Context
    caller: Principal | None
    words: Words
    now: datetime

    @property
    def who(self) -> Principal:
        """Who looks, on pages that need a role."""
        assert self.caller is not None  # noqa: S101 - `seeing` lets nobody else pass
        return self.caller

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """Return a page."""
        done = DONE.get(self.request.query_params.get("done", ""), "")
        html = (
            _templates()
            .get_template(template)
            .render(
                visit=self,
                caller=self.caller,
                words=self.words,
                t=self.words.say,
                code=self.words.code,
                path=self.request.url.path,
                sections=[each for each in SECTIONS if self.caller is not None and self.caller.has(each[2])],
                languages=NAMES,
                version=__version__,
                done=done,
                **values,
            )
        )
        return HTMLResponse(html, status, {"Cache-Control": "no-store", "Vary": "Cookie, Accept-Language"})

    def link(self, **changed: object) -> str:
        """Return the address of this page with other values in its query; None and "" take one away."""
        kept = {name: value for name, value in self.request.query_params.multi_items() if name != "done"}
        kept |= {name: "" if value is None else str(value) for name, value in changed.items()}
        query = urlencode({name: value for name, value in kept.items() if value})
        return f"{self.request.url.path}?{query}" if query else self.request.url.path


def seeing(least: str | None) -> Callable[[Request], Visit]:
    """Return the dependency of pages that need a role; None: that anybody may see.

    Raises (the dependency):
        Problem: nobody, not enough, or too often.
    """

    def dependency(request: Request) -> Visit:
        context = context_of(request)
        shows = least is not None or COOKIE in request.cookies
        caller = admitted(request) if shows else None
        if least is not None:
            if caller is None:
                raise Problem(401, "not-authenticated", "sign in")
            if not caller.has(least):
                raise Problem(403, "role", f"this needs the role {least}; {caller.name} is {caller.role} here")
        return Visit(request, context, caller, words(language_of(request)), context.clock())

    return dependency


def doing(least: str | None) -> Callable[[Request, str], Visit]:
    """Return the dependency of forms; beside what `seeing` asks, they must be the server's own.

    Raises (the dependency):
        Problem: as `seeing`, and for a form from elsewhere.
    """
    see = seeing(least)

    def dependency(request: Request, csrf: Annotated[str, Form(max_length=200)] = "") -> Visit:
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise Problem(403, "csrf", "a form of another site")
        visit = see(request)
        if least is not None and not csrf_is(visit.who, csrf):
            raise Problem(403, "csrf", "not a form of this session")
        return visit

    return dependency


def redirect(path: str, **query: str) -> Response:
    """Return the answer to a form: the page to look at next."""
    return RedirectResponse(f"{path}?{urlencode(query)}" if query else path, 303)


class PageRoute(APIRoute):
    """Tells errors as pages; whoever has not signed in is led to do so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the endpoint with its errors told."""
        handler = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await handler(request)
            except Exception as error:  # noqa: BLE001 - problem_of logs what nobody foresaw
                return _error_page(request, problem_of(error))

        return told


def _error_page(request: Request, problem: Problem) -> Response:
    if problem.status == HTTPStatus.UNAUTHORIZED:
        if "hx-request" in request.headers:  # a part of a page that comes again: the whole page leads to the sign-in
            return Response(status_code=401, headers={"HX-Refresh": "true"})
        path = request.url.path if request.method == "GET" else "/"
        return RedirectResponse(f"/sign-in?next={quote(path)}" if path != "/" else "/sign-in", 303)
    context = context_of(request)
    looked = problem.status < HTTPStatus.INTERNAL_SERVER_ERROR and problem.status != HTTPStatus.TOO_MANY_REQUESTS
    caller = principal(request) if looked else None
    visit = Visit(request, context, caller, words(language_of(request)), context.clock())
    text = ERRORS.get(problem.code, "")
    told = "" if text and problem.code not in _TOLD else str(problem)
    answer = visit.page("error.html.j2", problem.status, text=text, detail=told)
    answer.headers.update(problem.headers)
    return answer


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("hotmend.server.portal", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
