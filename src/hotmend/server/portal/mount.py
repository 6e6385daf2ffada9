"""The portal as a part of the app."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from hotmend.server.audit import pages as audit
from hotmend.server.compliance import pages as compliance
from hotmend.server.identity import pages as identity
from hotmend.server.identity import people_pages as people
from hotmend.server.issues import pages as issues
from hotmend.server.limits import Limiter
from hotmend.server.machines import pages as machines
from hotmend.server.machines import scope_pages as scopes
from hotmend.server.machines import upload_pages as uploading
from hotmend.server.maintenance import pages as maintenance
from hotmend.server.portal import overview, pages
from hotmend.server.portal.kept import Kept, KeptBy
from hotmend.server.releases import pages as releases
from hotmend.server.rollouts import pages as rollouts
from hotmend.server.rollouts import planning_pages as planning
from hotmend.server.webhooks import pages as webhooks

_PAGES: Final = (
    pages,
    overview,
    uploading,
    machines,
    identity,
    people,
    planning,
    rollouts,
    maintenance,
    scopes,
    compliance,
    issues,
    releases,
    audit,
    webhooks,
)


def mount(app: FastAPI) -> None:
    """Put the pages and what they load on an app."""
    app.state.sign_ins = Limiter(pages.TRIES_PER_MINUTE)
    app.state.figures, app.state.compliance = Kept(), KeptBy()
    for each in _PAGES:
        app.include_router(each.router)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
