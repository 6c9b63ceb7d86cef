"""The web pages: who and what uses the space, from the newest scans."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import orm

from dashboard import charts, rendering
from datamgr.api.deps import Name, ReadSession
from datamgr.errors import NotFoundError
from scanners import ages, growth, queries, record
from scanners.queries import Row, Selection
from scanners.routes import Visible
from scanners.visibility import Visibility

router = APIRouter(include_in_schema=False)

Basis = Literal["atime", "mtime", "ctime"]
BASES = {"atime": "last read", "mtime": "content changed", "ctime": "anything changed"}
TOPS = (10, 20, 50, 100)
OWNERS = ("user", "group")
YEAR_S = 365 * ages.DAY_S


@dataclass(frozen=True)
class Choice:
    """What the reader chose to see; each choice is a link."""

    project: str | None = None
    basis: Basis = "mtime"
    top: int = TOPS[0]
    directories: bool = False

    def url(self, fragment: str = "", **changes: Any) -> str:
        """The address of the page with these choices changed."""
        wanted = replace(self, **changes)
        query = {
            "project": wanted.project,
            "basis": wanted.basis if wanted.basis != Choice.basis else None,
            "top": wanted.top if wanted.top != Choice.top else None,
            "directories": "true" if wanted.directories else None,
        }
        text = urlencode({key: value for key, value in query.items() if value is not None})
        return "/" + (f"?{text}" if text else "") + (f"#{fragment}" if fragment else "")


@router.get("/", response_class=HTMLResponse)
def usage(
    session: ReadSession,
    visible: Visible,
    project: Name = None,
    basis: Basis = "mtime",
    top: Annotated[int, Query(ge=1, le=100)] = TOPS[0],
    directories: bool = False,
) -> HTMLResponse:
    """Usage of all projects, or of one."""
    scans = [row for row in queries.scans(session) if row["current"]]
    if not scans:
        return HTMLResponse(rendering.page("empty.html", {}))
    # An empty field of the search form means all.
    choice = Choice(project or None, basis, top, directories)
    selection = Selection(project=choice.project)
    values = {
        "choice": choice,
        "bases": BASES,
        "tops": TOPS,
        "bins": [(charts.age_tone(index), age.name) for index, age in enumerate(ages.BINS)],
        "reasons": record.REASONS,
        "scans": scans,
        "projects": _projects(session, visible, selection),
        "histogram": _histogram(session, visible, selection, choice),
        "biggest": _biggest(session, visible, selection, choice),
        "owners": {owner: _owners(session, visible, selection, owner) for owner in OWNERS},
        "growth": _growth(session, visible, selection, choice),
    }
    return HTMLResponse(rendering.page("usage.html", values))


@router.get("/static/{version}/{file}")
def static(version: str, file: str) -> Response:
    """A style sheet, script or icon; its address changes with its content.

    Raises:
        NotFoundError: there is none of this name.
    """
    content = rendering.static_files().get(file)
    if content is None:
        raise NotFoundError("There is nothing at this address.")
    newest = version == rendering.static_version()
    caching = "public, max-age=31536000, immutable" if newest else "no-cache"
    media_type = rendering.STATIC_TYPES[PurePath(file).suffix]
    return Response(content, media_type=media_type, headers={"Cache-Control": caching})


def error_page(status: int, title: str, detail: str) -> HTMLResponse:
    """What a reader sees instead of a page."""
    values = {"status": status, "title": title, "detail": detail}
    return HTMLResponse(rendering.page("error.html", values), status)


def _projects(session: orm.Session, visible: Visibility, selection: Selection) -> Row:
    """Projects with their bars, and what they sum up to."""
    rows = queries.projects(session, visible, selection)
    biggest = {key: max((row[key] for row in rows), default=0) for key in ("alloc_bytes", "inodes")}
    for row in rows:
        row["bytes_bar"] = charts.of_quota(
            row["alloc_bytes"], row["quota_bytes"], biggest["alloc_bytes"]
        )
        row["inodes_bar"] = charts.of_quota(row["inodes"], row["quota_inodes"], biggest["inodes"])
        row["over"] = row["bytes_bar"].capped or row["inodes_bar"].capped
    return {
        "rows": rows,
        "alloc_bytes": sum(row["alloc_bytes"] for row in rows),
        "files": sum(row["files"] for row in rows),
        "directories": sum(row["directories"] for row in rows),
        # Number 0 is what belongs to no project.
        "number": sum(1 for row in rows if row["number"] > 0),
        "with_quota": sum(1 for row in rows if row["quota_bytes"] or row["quota_inodes"]),
        "over": sum(1 for row in rows if row["over"]),
    }


def _histogram(
    session: orm.Session, visible: Visibility, selection: Selection, choice: Choice
) -> Row:
    """Files by age with their bars, and the share of what is older than a year."""
    rows = queries.ages_of_files(session, visible, selection, choice.basis)
    total = sum(row["alloc_bytes"] for row in rows)
    biggest = max(row["alloc_bytes"] for row in rows)
    for row in rows:
        row["bar"] = charts.of_bin(row["alloc_bytes"], biggest, row["bin"])
        row["percent"] = _percent(row["alloc_bytes"], total)
    old = sum(row["alloc_bytes"] for row in rows if (row["below_s"] or YEAR_S + 1) > YEAR_S)
    return {"rows": rows, "old_bytes": old, "old_percent": _percent(old, total)}


def _biggest(
    session: orm.Session, visible: Visibility, selection: Selection, choice: Choice
) -> list[Row]:
    """The biggest directories and files, with bars coloured by age."""
    found: dict[str, Callable[[orm.Session, Visibility, Selection, int], list[Row]]] = {
        "directories": queries.top_directories,
        "files": queries.top_files,
    }
    lists = []
    for what, find in found.items():
        rows = find(session, visible, selection, choice.top)
        biggest = max((row["alloc_bytes"] for row in rows), default=0)
        for row in rows:
            row["age_s"] = row[f"{choice.basis}_age_s"]
            row["bar"] = charts.of_age(row["alloc_bytes"], biggest, row["age_s"])
        lists.append({"what": what, "rows": rows})
    return lists


def _owners(
    session: orm.Session, visible: Visibility, selection: Selection, owner: str
) -> list[Row]:
    """Users or groups with their bars and their part of the whole."""
    rows = queries.by_owner(session, visible, selection, owner)
    total = sum(row["alloc_bytes"] for row in rows)
    biggest = max((row["alloc_bytes"] for row in rows), default=0)
    for row in rows:
        row["bar"] = charts.of_share(row["alloc_bytes"], biggest)
        row["percent"] = _percent(row["alloc_bytes"], total)
    return rows


def _growth(
    session: orm.Session, visible: Visibility, selection: Selection, choice: Choice
) -> list[Row]:
    """What changed since the scan before, for each file system that has one."""
    found = []
    for pair in growth.scan_pairs(session, visible, selection):
        changes = {"project": growth.by_project(session, visible, pair, selection)}
        # Compares every directory of two scans, which may take a while: only when asked for.
        if choice.directories:
            changes["directory"] = growth.by_directory(
                session, visible, pair, selection, choice.top
            )
        tables = {kind: _changed(rows) for kind, rows in changes.items()}
        grown = sum(row["grown_bytes"] for row in changes["project"])
        found.append({**pair, "tables": tables, "grown_bytes": grown})
    return found


def _changed(rows: list[Row]) -> list[Row]:
    rows = [row for row in rows if row["grown_bytes"] or row["grown_inodes"]]
    biggest = max((abs(row["grown_bytes"]) for row in rows), default=0)
    for row in rows:
        row["bar"] = charts.of_change(row["grown_bytes"], biggest)
    return rows


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None
