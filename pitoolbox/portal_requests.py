"""The pages of requests: what was asked for, how far it is, what it changed, what follows it."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Path, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy import orm

from datamgr import catalog, tasks
from datamgr.api import auth, downloads
from datamgr.api.deps import Account, Page, ReadSession
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import NotFoundError
from datamgr.identity import Caller
from datamgr.tasks import State
from pitoolbox import authorise, queries, submission, wording

router = APIRouter(prefix="/perms/requests", include_in_schema=False)

Id = Annotated[int, Path(ge=1, le=2**63 - 1)]
FollowUp = Literal["confirm", "cancel", "undo", "retry"]
PAGE_ROWS = 50
ISSUES_SHOWN = 200
ISSUES = ("path", "kind", "reason")
STATES = {"": "all", "unfinished": "not ended", "partial": "left something", "failed": "failed"}
_KNOWN = {
    "": tuple(State),
    "unfinished": tasks.UNFINISHED,
    "partial": (State.PARTIAL,),
    "failed": (State.FAILED,),
}


@router.get("", response_class=HTMLResponse)
def history(
    request: Request,
    session: ReadSession,
    caller: Account,
    page: Page,
    project: Annotated[str, Query(max_length=1100, pattern=r"^[^\x00]*$")] = "",
    state: Literal["", "unfinished", "partial", "failed"] = "",
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
) -> HTMLResponse:
    """The requests that the caller may see, newest first."""
    settings: Settings = request.app.state.settings
    rows = queries.list_requests(
        session,
        settings,
        caller,
        project=project or None,
        states=_KNOWN[state],
        before=before,
        limit=PAGE_ROWS + 1,
    )
    values = {
        "rows": rows[:PAGE_ROWS],
        "older": rows[PAGE_ROWS - 1]["id"] if len(rows) > PAGE_ROWS else None,
        "project": project,
        "state": state,
        "states": STATES,
    }
    return page("perms_history.html", values)


@router.get("/{task_id}", response_class=HTMLResponse)
def show(
    request: Request, session: ReadSession, caller: Account, page: Page, task_id: Id
) -> HTMLResponse:
    """Everything about one request."""
    settings: Settings = request.app.state.settings
    return page("perms_request.html", values_of(settings, session, caller, task_id))


def values_of(
    settings: Settings, session: orm.Session, caller: Caller, task_id: int
) -> dict[str, Any]:
    """What the page of a request shows.

    Raises:
        NotFoundError, ForbiddenError: as `queries.show`.
    """
    row = queries.show(session, settings, caller, task_id)
    ended = row["state"] not in tasks.UNFINISHED
    acts = _acts_for(settings, session, caller, row["project"])
    confirmed = queries.confirmed_by(session, task_id) if row["dry_run"] else None
    result = row["result"]
    may_follow = acts and ended and not row["dry_run"]
    return {
        "row": row,
        "what": wording.action(row),
        "result": result,
        "counts": wording.counts(result, would=row["dry_run"]) if result else [],
        "reasons": wording.reasons(result) if result else [],
        "sample": wording.differences(result) if result else [],
        "expected": queries.entries_expected(session, task_id),
        "ended": ended,
        "confirmed": confirmed,
        "mails": settings.pitoolbox.notify,
        "waits": row["state"] == State.QUEUED and not queries.worker_runs(session),
        "may": {
            "confirm": acts
            and row["dry_run"]
            and confirmed is None
            and row["state"] not in (State.FAILED, State.CANCELLED)
            and (not ended or bool(row["changed"])),
            "cancel": row["state"] in (State.QUEUED, State.RUNNING)
            and (caller.is_staff or row["requester"] == caller.username),
            # What a killed or failed one changed is known to its undo alone.
            "undo": may_follow and (result is None or bool(row["changed"])) and row["started_at"],
            "retry": may_follow and bool(row["failed"]) and row["undo_of"] is None,
        },
    }


@router.post("/{task_id}/{follow_up}")
def follow(
    request: Request,
    caller: Account,
    task_id: Id,
    follow_up: FollowUp,
    notify: Annotated[bool, Form()] = False,
) -> Response:
    """Carry a preview out, stop a request, or preview its undo or its retry."""
    settings: Settings = request.app.state.settings
    database: Database = request.app.state.database
    client = f"web pages, {auth.client_of(request)}"
    with database.transaction() as session:
        queries.visible(session, settings, caller, task_id)
        if follow_up == "cancel":
            found = submission.cancel(session, caller, task_id, client=client)
        elif follow_up == "confirm":
            found = submission.confirm(
                session, settings, caller, task_id, client=client, notify=notify
            )
        else:
            queue = submission.undo if follow_up == "undo" else submission.retry
            found = queue(session, settings, caller, task_id, client=client, dry_run=True)
        number = found.id
    return RedirectResponse(f"/perms/requests/{number}", 303)


@router.get("/{task_id}/left-alone", response_class=HTMLResponse)
def left_alone(
    request: Request, session: ReadSession, caller: Account, page: Page, task_id: Id
) -> HTMLResponse:
    """The first entries that a request left as they are, and why."""
    settings: Settings = request.app.state.settings
    task, asked = queries.visible(session, settings, caller, task_id)
    rows = _first(session, task_id, ISSUES_SHOWN)
    row = queries.listed(task, asked)
    values = {"row": row, "what": wording.action(row), "rows": rows, "most": ISSUES_SHOWN}
    return page("perms_left_alone.html", values)


@router.get("/{task_id}/left-alone.csv")
def left_alone_csv(
    request: Request, session: ReadSession, caller: Account, task_id: Id
) -> Response:
    """All of these, up to as many as a download has."""
    settings: Settings = request.app.state.settings
    queries.visible(session, settings, caller, task_id)
    rows = _first(session, task_id, downloads.MOST_ROWS)
    return downloads.csv(f"left-alone-{task_id}", ISSUES, rows)


def _first(session: orm.Session, task_id: int, number: int) -> list[dict[str, Any]]:
    found = queries.issues(session, task_id)
    return [dict(row) for _, row in zip(range(number), found, strict=False)]


def _acts_for(settings: Settings, session: orm.Session, caller: Caller, name: str) -> bool:
    try:
        return authorise.acts_for(settings, caller, catalog.project(session, name))
    except NotFoundError:
        return False
