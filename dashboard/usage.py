"""What a project holds, or all of them together: what is big, how old it is, and whose."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from sqlalchemy import orm

from dashboard import charts, choices, rendering
from dashboard.choices import BASES, TOPS, Basis
from datamgr.api.deps import Name, ReadSession
from scanners import ages, growth, queries, record
from scanners.queries import Row, Selection
from scanners.routes import Visible
from scanners.visibility import Visibility

router = APIRouter(include_in_schema=False)

OWNERS = ("user", "group")
YEAR_S = 365 * ages.DAY_S


@dataclass(frozen=True)
class UsageChoice(choices.Choice):
    """Of which project what is shown; None means all."""

    PAGE: ClassVar[str] = "/usage"

    filesystem: str | None = None
    project: str | None = None
    basis: Basis = "mtime"
    top: int = TOPS[0]
    directories: bool = False


@router.get("/usage", response_class=HTMLResponse)
def usage(
    session: ReadSession,
    visible: Visible,
    filesystem: Name = None,
    project: Name = None,
    basis: Basis = "mtime",
    top: Annotated[int, Query(ge=1, le=100)] = TOPS[0],
    directories: bool = False,
) -> HTMLResponse:
    """Usage of all projects, or of one."""
    choice = UsageChoice(filesystem or None, project or None, basis, top, directories)
    selection = Selection(choice.filesystem, choice.project)
    projects = _projects(session, visible, selection)
    values = {
        "choice": choice,
        "bases": BASES,
        "tops": TOPS,
        "bins": [(charts.age_tone(index), age.name) for index, age in enumerate(ages.BINS)],
        "reasons": record.REASONS,
        "scans": [
            row
            for row in queries.scans(session)
            if row["current"] and row["filesystem"] in {p["filesystem"] for p in projects["rows"]}
        ],
        "projects": projects,
        "histogram": _histogram(session, visible, selection, choice),
        "biggest": _biggest(session, visible, selection, choice),
        "owners": {owner: _owners(session, visible, selection, owner) for owner in OWNERS},
        "growth": _growth(session, visible, selection, choice),
    }
    return HTMLResponse(rendering.page("usage.html", values))


def _projects(session: orm.Session, visible: Visibility, selection: Selection) -> Row:
    """The projects with their bars, and what they sum up to."""
    rows = queries.projects(session, visible, selection)
    biggest = {key: max((row[key] for row in rows), default=0) for key in ("alloc_bytes", "inodes")}
    for row in rows:
        row["bytes_bar"] = charts.of_quota(
            row["alloc_bytes"], row["quota_bytes"], biggest["alloc_bytes"]
        )
        row["inodes_bar"] = charts.of_quota(row["inodes"], row["quota_inodes"], biggest["inodes"])
    return {
        "rows": rows,
        "alloc_bytes": sum(row["alloc_bytes"] for row in rows),
        "files": sum(row["files"] for row in rows),
        "directories": sum(row["directories"] for row in rows),
        "number": sum(1 for row in rows if row["number"] > 0),
        "with_quota": sum(1 for row in rows if row["quota_bytes"] or row["quota_inodes"]),
    }


def _histogram(
    session: orm.Session, visible: Visibility, selection: Selection, choice: UsageChoice
) -> Row:
    """Files by age with their bars, and the share of what is older than a year."""
    rows = queries.ages_of_files(session, visible, selection, choice.basis)
    total = sum(row["alloc_bytes"] for row in rows)
    biggest = max(row["alloc_bytes"] for row in rows)
    for row in rows:
        row["bar"] = charts.of_bin(row["alloc_bytes"], biggest, row["bin"])
        row["percent"] = charts.percent(row["alloc_bytes"], total)
    old = sum(row["alloc_bytes"] for row in rows if (row["below_s"] or YEAR_S + 1) > YEAR_S)
    return {"rows": rows, "old_bytes": old, "old_percent": charts.percent(old, total)}


def _biggest(
    session: orm.Session, visible: Visibility, selection: Selection, choice: UsageChoice
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
    return charts.with_shares(queries.by_owner(session, visible, selection, owner))


def _growth(
    session: orm.Session, visible: Visibility, selection: Selection, choice: UsageChoice
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
