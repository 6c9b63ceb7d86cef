"""The page for staff: how scans went, what is queued and runs, and which services are there."""

from importlib import metadata
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import orm

from dashboard import choices
from datamgr import db, tasks
from datamgr.api.deps import Account, Page, ReadSession
from datamgr.config import Settings
from datamgr.errors import DatamgrError, ForbiddenError
from datamgr.tasks import State, Task
from pitoolbox import listing
from pitoolbox import queries as requests
from scanners import alerts, queries, record
from scanners.queries import Row
from tiering import states

router = APIRouter(include_in_schema=False)

SCANS = 30
TASKS = 30
ALERTS = 100
MEASURES = {
    "bytes_percent": "space against quota",
    "inodes_percent": "inodes against quota",
    "days_to_full_bytes": "days until space is full",
    "days_to_full_inodes": "days until inodes are full",
}
# Where tasks of a kind have pages of their own.
REQUESTS = {"perms": "/perms/requests/", "tier": "/tiering/requests/"}


@router.get("/operations", response_class=HTMLResponse)
def operations(request: Request, session: ReadSession, caller: Account, page: Page) -> HTMLResponse:
    """The state of the whole installation.

    Raises:
        ForbiddenError: the caller is not staff.
    """
    if not caller.is_staff:
        raise ForbiddenError("this page is for staff")
    settings: Settings = request.app.state.settings
    values = {
        "services": _services(settings, session),
        "scans": [_scan(row) for row in queries.scans(session)[: -SCANS - 1 : -1]],
        "reasons": record.REASONS,
        "alerts": [_alert(row) for row in alerts.states(session)[:ALERTS]],
        "waiting": _waiting(session),
        "tasks": [_task(found) for found in tasks.list_tasks(session, limit=TASKS)],
    }
    return page("operations.html", values)


def _services(settings: Settings, session: orm.Session) -> list[Row]:
    version = session.scalar(sa.text("SHOW server_version"))
    size = session.scalar(sa.text("SELECT pg_database_size(current_database())"))
    return [
        {"name": "Database", "ok": True, "size": size, "words": f"PostgreSQL {version}"},
        {
            "name": "Web pages",
            "ok": True,
            "size": None,
            "words": f"datamgr {metadata.version('datamgr')}",
        },
        {
            "name": "Scan worker",
            "ok": tasks.is_worked_on(session, "scan"),
            "size": None,
            "words": "runs scans that were queued; the nightly ones need none",
        },
        _lister(settings),
        {
            "name": "Permission worker",
            "ok": requests.worker_runs(session),
            "size": None,
            "words": "carries permission requests out",
        },
        *(
            {
                "name": f"Tiering of {name}",
                "ok": states.is_worked_on(session, name),
                "size": None,
                "words": "puts, punches and stages",
            }
            for name in settings.tier
        ),
    ]


def _lister(settings: Settings) -> Row:
    row = {"name": "Lister", "size": None, "words": "looks into directories for the pages"}
    try:
        listing.ask(settings.lister_socket, {})  # which it refuses, and so is there
    except DatamgrError as error:
        return row | {"ok": False, "words": str(error)}
    return row | {"ok": True}


def _alert(row: Row) -> Row:
    unit = " %" if row["measure"].endswith("percent") else " days"
    return row | {
        "words": MEASURES[row["measure"]],
        "link": choices.UsageChoice(row["filesystem"], row["project"]).url(),
        "is": "–" if row["value"] is None else f"{row['value']:.1f}{unit}",
        "limit": f"{row['threshold']:g}{unit}",
    }


def _scan(row: Row) -> Row:
    ended = row["finished_at"]
    return row | {
        "duration_s": None if ended is None else (ended - row["started_at"]).total_seconds(),
        "reasons": {reason: number for reason, number in row["errors"].items() if number},
    }


def _waiting(session: orm.Session) -> list[dict[str, Any]]:
    """Tasks that have not ended, by kind: how many wait, since when, and how many run."""
    waits = Task.state == State.QUEUED
    wanted = (
        sa.select(
            Task.kind,
            sa.func.count().filter(waits).label("queued"),
            sa.func.count().filter(sa.not_(waits)).label("running"),
            sa.func.min(Task.created_at).filter(waits).label("oldest"),
        )
        .where(Task.state.in_(tasks.UNFINISHED))
        .group_by(Task.kind)
        .order_by(Task.kind)
    )
    return [dict(row) for row in session.execute(wanted).mappings()]


def _task(found: Task) -> Row:
    begun, ended = found.started_at, found.finished_at or db.utc_now()
    return {
        "id": found.id,
        "kind": found.kind,
        "key": found.key,
        "owner": found.owner,
        "state": found.state,
        "error": found.error,
        "attempts": found.attempts,
        "created_at": found.created_at,
        "duration_s": None if begun is None else (ended - begun).total_seconds(),
        "link": REQUESTS[found.kind] + str(found.id) if found.kind in REQUESTS else None,
    }
