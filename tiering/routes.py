"""The pages of managed roots: what is where, and the requests of who looks."""

import os
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Form, Path, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field
from sqlalchemy import orm

from datamgr import db, display, tasks
from datamgr.api import auth, live
from datamgr.api.deps import Account, Page, ReadSession
from datamgr.config import Settings
from datamgr.config_tier import TierSettings
from datamgr.db import Database
from datamgr.errors import NotFoundError
from datamgr.identity import Caller
from datamgr.tasks import State
from tiering import requests, states
from tiering.questions import Action
from tiering.request import Request as Wanted

router = APIRouter(prefix="/tiering", include_in_schema=False)

Id = Annotated[int, Path(ge=1, le=2**63 - 1)]
ROWS = 50
FAILURES = 200
LETTERS = {"B": "on disk and in the archive", "H": "in the archive", "trash": "removed, kept"}
SHOWN = {"": "not ended", "failed": "failed", "all": "all"}
_KNOWN = {
    "": tasks.UNFINISHED,
    "failed": (State.FAILED, State.PARTIAL),
    "all": tuple(State),
}
# What was not read for so long is worth to be looked for.
COLD = {"90d": "90 days", "1y": "a year"}


class Asked(BaseModel):
    """A form that was confirmed; `paths` are base64url, relative to the root."""

    root: Annotated[str, Form(max_length=300)]
    action: Literal[Action.PUT, Action.PUNCH, Action.STAGE, Action.PIN, Action.UNPIN]
    paths: Annotated[list[Annotated[str, Field(max_length=6000)]], Field(min_length=1)]
    recursive: bool = False
    punch: bool = False
    unguarded: bool = False
    days: Annotated[int, Field(ge=1, le=36_500)] = 30

    def request(self) -> Wanted:
        """What is asked for."""
        is_pin = self.action is Action.PIN
        return Wanted(
            root=self.root,
            action=self.action,
            recursive=self.recursive,
            punch=self.punch and self.action is Action.PUT,
            unguarded=self.unguarded,
            until=db.utc_now() + timedelta(days=self.days) if is_pin else None,
        )


@router.get("", response_class=HTMLResponse)
def overview(
    request: Request,
    session: ReadSession,
    caller: Account,
    page: Page,
    show: Annotated[Literal["", "failed", "all"], Query()] = "",
) -> HTMLResponse:
    """Each managed root by state, and what runs, waits and, where asked for, has ended."""
    settings: Settings = request.app.state.settings
    values = {
        "roots": [_root(session, name, tier) for name, tier in settings.tier.items()],
        "letters": LETTERS,
        "cold": COLD,
        "rows": requests.list_requests(session, caller, states=_KNOWN[show], limit=ROWS),
        "recalls": requests.recalls(session, caller),
        "is_staff": caller.is_staff,
        "most": ROWS,
        "show": show,
        "shown": SHOWN,
    }
    return page("tiering.html", values)


@router.post("/requests")
def ask(request: Request, caller: Account, asked: Annotated[Asked, Form()]) -> Response:
    """Queue what was confirmed, for the daemon to do with the rights of who asks."""
    settings: Settings = request.app.state.settings
    database: Database = request.app.state.database
    if asked.root not in settings.tier:
        raise NotFoundError(f"there is no managed root {asked.root!r}")
    paths = [display.from_address(path) for path in asked.paths]
    client = f"web pages, {auth.client_of(request)}"
    with database.transaction() as session:
        number = requests.submit(session, caller, asked.request(), paths, client=client).id
    return RedirectResponse(f"/tiering/requests/{number}", 303)


@router.get("/requests/{task_id}", response_class=HTMLResponse)
def show(
    request: Request, session: ReadSession, caller: Account, page: Page, task_id: Id
) -> HTMLResponse:
    """One request, and the files that could not be done."""
    settings: Settings = request.app.state.settings
    return page("tiering_request.html", values_of(settings, session, caller, task_id))


def values_of(
    settings: Settings, session: orm.Session, caller: Caller, task_id: int
) -> dict[str, Any]:
    """What the page of a request shows.

    Raises:
        NotFoundError, ForbiddenError: as `requests.show`.
    """
    row = requests.show(session, caller, task_id, failures=FAILURES)
    tier = settings.tier.get(row["root"])
    top = os.fsencode(tier.root) if tier is not None else b""
    failures = [
        failure | {"path": os.path.join(top, failure["path"])} for failure in row["failures"]
    ]
    is_queued = row["state"] == State.QUEUED
    return {
        "row": row | {"failures": failures},
        "first": os.path.normpath(os.path.join(top, row["first_path"] or b"")),
        "most": FAILURES,
        "ended": row["state"] not in tasks.UNFINISHED,
        "ahead": requests.ahead(session, task_id) if is_queued else 0,
        "waits": is_queued and not states.is_worked_on(session, row["root"]),
        "may_cancel": row["state"] in (State.QUEUED, State.RUNNING),
    }


def _may_see(session: ReadSession, caller: Account, task_id: Id) -> None:
    """Refuse before the stream begins, after which there is no status any more."""
    requests.show(session, caller, task_id, failures=0)


MaySee = Depends(_may_see, scope="function")


@router.get("/requests/{task_id}/events", response_class=EventSourceResponse, dependencies=[MaySee])
async def events(request: Request, task_id: Id) -> AsyncIterator[ServerSentEvent]:
    """The live part of the page, as `live.follow` sends it."""
    watched = live.Watched(request, task_id, "tiering_live.html", values_of)
    async for event in live.follow(watched):
        yield event


@router.post("/requests/{task_id}/cancel")
def cancel(request: Request, caller: Account, task_id: Id) -> Response:
    """Stop a request: at once if it waits, else between two batches of files."""
    database: Database = request.app.state.database
    with database.transaction() as session:
        requests.cancel(session, caller, task_id)
    return RedirectResponse(f"/tiering/requests/{task_id}", 303)


def _root(session: orm.Session, name: str, tier: TierSettings) -> Mapping[str, Any]:
    top = os.fsencode(tier.root)
    try:
        disk = os.statvfs(tier.root)
    except OSError:  # this account may not look at it
        disk = None
    search = {"at": display.to_address(top), "basis": "atime", "sort": "size"}
    return {
        "name": name,
        "path": top,
        "free": None if disk is None else disk.f_bavail * disk.f_frsize,
        "size": None if disk is None else disk.f_blocks * disk.f_frsize,
        "states": states.totals(session, name),
        "archive": states.archive_totals(session, name),
        "runs": states.is_worked_on(session, name),
        "policies": {
            policy: f"/tiering/policies/{quote(name, safe='')}/{quote(policy, safe='')}"
            for policy in tier.policy
        },
        "cold": {age: "/browse?" + urlencode(search | {"older": age}) for age in COLD},
    }
