"""What a project holds, or all of them together: what is big, how old it is, and whose."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import orm

from dashboard import browse_links, charts, choices, downloads, sections
from dashboard.choices import BASES, MEASURES, TOPS, Basis, Measure, UsageChoice
from dashboard.remembered import Kept
from datamgr.api.deps import Account, Name, Page, ReadSession
from datamgr.errors import InvalidError, NotFoundError
from datamgr.identity import Caller
from scanners import ages, growth, leaders, queries, record
from scanners.queries import Row, Selection
from scanners.routes import Visible
from scanners.visibility import Visibility

router = APIRouter(include_in_schema=False)

OWNERS = ("user", "group")
What = Literal["directories", "files", "ages", "user", "group", "trend", "growth", "map"]
Text = Annotated[str, Query(max_length=6000, pattern=r"^[^\x00]*$")]


async def _choice(  # noqa: PLR0913, PLR0917  one parameter for each choice
    filesystem: Name = None,
    project: Name = None,
    user: Text = "",
    basis: Basis = "mtime",
    top: Annotated[int, Query(ge=1, le=100)] = TOPS[0],
    parents: bool = False,
    measure: Measure = "bytes",
    since: Text = "",
    directories: bool = False,
    at: Text = "",
) -> UsageChoice:
    return UsageChoice(
        filesystem or None, project or None, user.strip(), basis, top, parents, measure, since,
        directories, at,
    )  # fmt: skip


Chosen = Annotated[UsageChoice, Depends(_choice)]


@router.get("/usage", response_class=HTMLResponse)
def usage(
    session: ReadSession, visible: Visible, caller: Account, page: Page, kept: Kept, choice: Chosen
) -> Response:
    """Usage of all projects, or of one."""
    return kept.page(lambda: page("usage.html", _values(session, visible, caller, choice)))


def _values(
    session: orm.Session, visible: Visibility, caller: Caller, choice: UsageChoice
) -> dict[str, Any]:
    of_all = Selection(choice.filesystem, choice.project)
    selection = replace(of_all, user=choice.user or None)
    projects = sections.projects(session, visible, of_all)
    shown = {row["filesystem"] for row in projects["rows"]}
    owners = {owner: sections.owners(session, visible, of_all, owner) for owner in OWNERS}
    for row in owners["user"][: choice.top]:  # the others are counted, and in the table to download
        row["link"] = choice.url("directories", user=row["user"])
    biggest = sections.biggest(session, visible, selection, choice)
    for row in biggest["directories"]:
        row["link"] = browse_links.to(row["path"])
    for row in biggest["files"]:
        row["link"] = browse_links.to(row["path"].rpartition(b"/")[0] or b"/")
    scans = [row for row in queries.scans(session) if row["current"]]
    values: dict[str, Any] = {
        "choice": choice,
        "bases": BASES,
        "tops": TOPS,
        "measures": MEASURES,
        "me": caller.username,
        "bins": [(charts.age_tone(index), age.name) for index, age in enumerate(ages.BINS)],
        "reasons": record.REASONS,
        "scans": [row for row in scans if row["filesystem"] in shown],
        "projects": projects,
        "histogram": sections.histogram(session, visible, selection, choice.basis),
        "biggest": biggest,
        "owners": owners,
        "growth": sections.growth_since(session, visible, of_all, choice),
        "trends": [],
        "map": None,
    }
    if choice.project:
        values["trends"] = sections.trends(session, visible, of_all, choice.measure)
        values["map"] = _map(session, visible, choice, projects["rows"][0])
    return values


@router.get("/usage/{what}.csv")
def usage_csv(session: ReadSession, visible: Visible, choice: Chosen, what: What) -> Response:
    """The rows of one part of the page, all of them where it shows the first."""
    of_all = Selection(choice.filesystem, choice.project)
    selection = replace(of_all, user=choice.user or None)
    rows: list[Row]
    if what == "directories":
        rows = leaders.directories(session, visible, selection, choice.top, parents=choice.parents)
    elif what == "files":
        rows = leaders.files(session, visible, selection, choice.top)
    elif what == "ages":
        rows = queries.ages_of_files(session, visible, selection, choice.basis)
    elif what == "trend":
        if not choice.project:
            raise InvalidError("a trend is that of one project; follow a link")
        series = sections.trends(session, visible, of_all, choice.measure)
        rows = [row for one in series for row in one["rows"]]
    elif what == "map":
        path = choices.decode_path(choice.at) if choice.at else _top(session, visible, choice)
        rows = sections.treemap_of(session, visible, path, choice)["rows"]
    elif what == "growth":
        since = sections.since_of(choice.since)
        pairs = growth.scan_pairs(session, visible, of_all, since)
        rows = [
            {"project": None, "user": None, "path": None, "since": pair["old_at"], **row}
            for pair in pairs
            for row in growth.changes(session, visible, pair, of_all, 10_000)
        ]
    else:
        rows = queries.by_owner(session, visible, of_all, what)
    return downloads.csv(f"usage-{what}", downloads.COLUMNS[what], rows)


def _top(session: orm.Session, visible: Visibility, choice: UsageChoice) -> bytes:
    if not choice.project:
        raise InvalidError("a map is that of one project; follow a link")
    of_all = Selection(choice.filesystem, choice.project)
    path: bytes | None = queries.projects(session, visible, of_all)[0]["path"]
    if path is None:
        raise NotFoundError("this project has no directory of its own")
    return path


def _map(
    session: orm.Session, visible: Visibility, choice: UsageChoice, project: Row
) -> Row | None:
    """The map of the chosen directory, or of the project's; None where there is nothing to show."""
    path = choices.decode_path(choice.at) if choice.at else project["path"]
    if path is None:
        return None
    try:
        found = sections.treemap_of(session, visible, path, choice)
    except NotFoundError:
        # The totals of a project are visible also where its top may not be listed.
        if choice.at:
            raise
        return None
    above = path.rpartition(b"/")[0]
    inside = project["path"] is not None and path != project["path"]
    found["up"] = choice.url("map", at=choices.encode_path(above)) if inside and above else None
    found["browse"] = browse_links.to(path)
    return found
