"""The upload of a machine's facts: of one without an agent, as a Windows server."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, File, Form, UploadFile
from starlette.responses import Response

from hotmend.server.machines import uploads
from hotmend.server.portal.visit import PageRoute, Visit, doing, redirect
from hotmend.server.problem import Problem

router = APIRouter(prefix="/facts", route_class=PageRoute, include_in_schema=False)
_BYTES_MAX: Final = 8 << 20


@router.post("")
def upload(
    visit: Annotated[Visit, Depends(doing("operator"))],
    file: Annotated[UploadFile, File()],
    name: Annotated[str, Form(max_length=253)] = "",
) -> Response:
    """Keep facts, judge them, and show the machine."""
    body = file.file.read(_BYTES_MAX + 1)
    if len(body) > _BYTES_MAX:
        raise Problem(413, "too-large", f"facts have at most {_BYTES_MAX} bytes")
    identity = uploads.upload(visit.context, visit.who, name.strip(), body)
    return redirect(f"/machines/{identity}", done="facts")
