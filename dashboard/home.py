"""The first page: the projects that the reader may see, against their quotas."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import orm

from dashboard import charts, choices, downloads, outlook
from dashboard.remembered import Kept
from datamgr import db
from datamgr.api.deps import Page, Pages, ReadSession
from scanners import queries, record, weekly
from scanners.queries import Row, Selection
from scanners.routes import Visible
from scanners.visibility import Visibility

router = APIRouter(include_in_schema=False)

Sort = Literal["space", "quota", "inodes", "growth", "name"]
SORTS = {
    "space": "most space",
    "quota": "fullest quota",
    "inodes": "most inodes",
    "growth": "most growth",
    "name": "name",
}
PAGE_ROWS = 25
DETAIL_ROWS = 8
Words = Annotated[str, Query(max_length=1200, pattern=r"^[^\x00]*$")]
Number = Annotated[int, Query(ge=1, le=1_000_000)]


@dataclass(frozen=True)
class HomeChoice(choices.Choice):
    """Which projects are listed, and of which one the usage details are open."""

    PAGE: ClassVar[str] = "/"

    find: str = ""
    sort: Sort = "space"
    details: str = ""
    number: int = 1


async def _choice(
    find: Words = "", sort: Sort = "space", details: Words = "", number: Number = 1
) -> HomeChoice:
    return HomeChoice(find.strip(), sort, details, number)


Chosen = Annotated[HomeChoice, Depends(_choice)]


@router.get("/", response_class=HTMLResponse)
def home(
    session: ReadSession, visible: Visible, page: Page, kept: Kept, choice: Chosen
) -> Response:
    """Projects against their quotas; `number` is the page of the list."""
    return kept.page(lambda: _home(session, visible, page, choice))


def _home(
    session: orm.Session, visible: Visibility, page: Pages, choice: HomeChoice
) -> HTMLResponse:
    scans = [row for row in queries.scans(session) if row["current"]]
    if not scans:
        return page("empty.html", {})
    every = _projects(session, visible)
    rows = _listed(every, choice.find, choice.sort)
    number, last = choices.pages_of(len(rows), PAGE_ROWS, choice.number)
    choice = replace(choice, number=number)
    shown = rows[(number - 1) * PAGE_ROWS : number * PAGE_ROWS]
    _add_bars(shown, every)
    _add_outlooks(session, shown)
    for row in shown:
        row["link"] = choices.UsageChoice(row["filesystem"], row["project"]).url()
        row["key"] = f"{row['filesystem']}/{row['project']}"
        row["owners"] = _owners(session, visible, row) if row["key"] == choice.details else None
    values = {
        "choice": choice,
        "sorts": SORTS,
        "scans": scans,
        "reasons": record.REASONS,
        "totals": _totals(every),
        "rows": shown,
        "found": len(rows),
        "last": last,
        "first_row": (number - 1) * PAGE_ROWS + 1,
    }
    return page("home.html", values)


@router.get("/projects.csv")
def projects_csv(
    session: ReadSession, visible: Visible, find: Words = "", sort: Sort = "space"
) -> Response:
    """The listed projects, all pages of them."""
    rows = _listed(_projects(session, visible), find, sort)
    return downloads.csv("projects", downloads.PROJECTS, rows)


def _projects(session: orm.Session, visible: Visibility) -> list[Row]:
    """All visible projects with what they grew; None where there was one scan."""
    rows = queries.projects(session, visible, Selection())
    grown = weekly.growth(session, visible, Selection())
    for row in rows:
        then = grown.get((row["filesystem"], row["project"]))
        row["grown_bytes"] = row["alloc_bytes"] - then["alloc_bytes"] if then else None
        row["grown_inodes"] = row["inodes"] - then["inodes"] if then else None
        row["grown_since"] = then["since"] if then else None
        row["grown_span_s"] = then["span_s"] if then else None
        percents = [row["bytes_percent"] or 0, row["inodes_percent"] or 0]
        row["percent"] = max(percents)
        row["over"] = row["percent"] > 100
    return rows


def _listed(rows: list[Row], find: str, sort: Sort) -> list[Row]:
    """The rows whose project or path has the words, in an order that never changes by itself."""
    words = find.casefold().split()
    keys: dict[str, Callable[[Row], Any]] = {
        "space": lambda row: -row["alloc_bytes"],
        "quota": lambda row: -row["percent"],
        "inodes": lambda row: -row["inodes"],
        "growth": lambda row: -(row["grown_bytes"] or 0),
        "name": lambda row: 0,
    }
    found = [row for row in rows if all(word in _text(row) for word in words)]
    return sorted(
        found, key=lambda row: (keys[sort](row), row["project"].casefold(), row["filesystem"])
    )


def _text(row: Row) -> str:
    path = (row["path"] or b"").decode("utf-8", "replace")
    return f"{row['project']}\n{path}".casefold()


def _add_bars(rows: list[Row], every: list[Row]) -> None:
    biggest = {
        key: max((row[key] for row in every), default=0) for key in ("alloc_bytes", "inodes")
    }
    for row in rows:
        row["bytes_bar"] = charts.of_quota(
            row["alloc_bytes"], row["quota_bytes"], biggest["alloc_bytes"]
        )
        row["inodes_bar"] = charts.of_quota(row["inodes"], row["quota_inodes"], biggest["inodes"])


def _add_outlooks(session: orm.Session, rows: list[Row]) -> None:
    found, now = weekly.forecasts(session, rows), db.utc_now()
    for row in rows:
        row["outlook"] = outlook.of(found[row["filesystem"], row["project"]], now)


def _owners(session: orm.Session, visible: Visibility, row: Row) -> dict[str, list[Row]]:
    selection = Selection(row["filesystem"], row["project"])
    return {
        owner: charts.with_shares(queries.by_owner(session, visible, selection, owner))
        for owner in ("user", "group")
    }


def _totals(rows: list[Row]) -> Row:
    return {
        "alloc_bytes": sum(row["alloc_bytes"] for row in rows),
        "inodes": sum(row["inodes"] for row in rows),
        # Number 0 is what belongs to no project.
        "number": sum(1 for row in rows if row["number"] > 0),
        "with_quota": sum(1 for row in rows if row["quota_bytes"] or row["quota_inodes"]),
        "over": sum(1 for row in rows if row["over"]),
        "grown_bytes": sum(row["grown_bytes"] or 0 for row in rows),
        "has_growth": any(row["grown_bytes"] is not None for row in rows),
    }
