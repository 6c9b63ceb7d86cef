"""The file browser: what lies in a directory as of the newest scan, and what is found below."""

import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import pyarrow as pa
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import orm

from dashboard import browse_links, charts, choices, downloads, tiers
from dashboard.choices import BASES, Basis
from dashboard.remembered import Kept
from datamgr import display, identity, units
from datamgr.api.deps import Account, Name, Page, ReadSession
from datamgr.config import Settings
from datamgr.identity import Caller
from scanners import ages, browsing, find, places, queries, sorting
from scanners.browsing import Sort
from scanners.find import Question
from scanners.queries import Row, Selection
from scanners.routes import Visible
from scanners.visibility import Visibility

router = APIRouter(include_in_schema=False)

PAGE_ROWS = 100
FOUND_ROWS = 500
SORTS = {"name": "name", "size": "size", "age": "age", "owner": "owner"}
KINDS = {"l": "symbolic link", "p": "pipe", "s": "socket", "b": "device", "c": "device"}
Words = Annotated[str, Query(max_length=1200, pattern=r"^[^\x00]*$")]
Number = Annotated[int, Query(ge=1, le=100_000_000)]


@dataclass(frozen=True)
class BrowseChoice(choices.Choice):
    """Which directory is listed how; with one of `name`, `larger`, `older`, `owner`: searched.

    `all`: with everything on the page ticked, for who has no script to do it.
    """

    PAGE: ClassVar[str] = "/browse"

    at: str
    filesystem: str | None = None
    sort: Sort = "size"
    basis: Basis = "mtime"
    number: int = 1
    name: str = ""
    larger: str = ""
    older: str = ""
    owner: str = ""
    all: bool = False

    @property
    def searches(self) -> bool:
        """Whether something is looked for."""
        return bool(self.name or self.larger or self.older or self.owner)

    @property
    def path(self) -> bytes:
        """The directory."""
        return choices.decode_path(self.at)


async def _choice(  # noqa: PLR0913, PLR0917  one parameter for each choice
    at: Annotated[str, Query(max_length=50_000)],
    filesystem: Name = None,
    sort: Sort = "size",
    basis: Basis = "mtime",
    number: Number = 1,
    name: Words = "",
    larger: Words = "",
    older: Words = "",
    owner: Words = "",
    all: bool = False,
) -> BrowseChoice:
    name, larger, older, owner = (text.strip() for text in (name, larger, older, owner))
    return BrowseChoice(
        at, filesystem or None, sort, basis, number, name, larger, older, owner, all
    )


Chosen = Annotated[BrowseChoice, Depends(_choice)]


@router.get("/browse", response_class=HTMLResponse)
def browse(
    session: ReadSession,
    visible: Visible,
    request: Request,
    caller: Account,
    page: Page,
    kept: Kept,
    choice: Chosen,
) -> Response:
    """A directory, a page at a time, or what a search below it finds."""
    settings: Settings = request.app.state.settings

    def make() -> HTMLResponse:
        values = _values(session, settings, caller, visible, choice)
        made = page("browse.html", values)
        if values["managed"]:
            # States of tiering are of now.
            made.headers["Cache-Control"] = "no-store"
        return made

    return kept.page(make)


def _values(
    session: orm.Session,
    settings: Settings,
    caller: Caller,
    visible: Visibility,
    choice: BrowseChoice,
) -> dict[str, Any]:
    top = queries.directory(session, visible, choice.path, choice.filesystem)
    scan = next(row for row in queries.scans(session) if row["id"] == top["scan_id"])
    values: dict[str, Any] = {
        # Links lead to lists on which nothing is ticked.
        "choice": replace(choice, all=False),
        "all": choice.all,
        "sorts": SORTS,
        "bases": BASES,
        "top": top,
        "crumbs": _crumbs(session, visible, top),
        "permissions": browse_links.permissions(
            session, settings, caller, top["project"], top["path"]
        ),
        "usage": choices.UsageChoice(project=top["project"]).url(),
        "scan": scan,
        "most": FOUND_ROWS,
        "letters": tiers.LETTERS,
        "last": 1,
    }
    if choice.searches:
        rows = _found(settings, session, visible, choice)
        values["total"] = len(rows)
    else:
        start = (choice.number - 1) * PAGE_ROWS
        window = slice(start, start + PAGE_ROWS)
        sort = (choice.sort, choice.basis)
        found = browsing.listing(session, visible, top, sort, settings, window)
        total = found.directories + found.files
        last = choices.pages_of(total, PAGE_ROWS, choice.number)[1]
        values |= {"total": total, "last": last, "listing": found}
        rows = found.rows
    _add_looks(rows, choice)
    values["managed"] = tiers.add_states(session, settings, rows, scan["started_at"])
    tiers.add_amounts(session, settings, rows)
    return values | {"rows": rows}


@router.get("/browse.csv")
def browse_csv(
    session: ReadSession, visible: Visible, request: Request, choice: Chosen
) -> Response:
    """What a directory has in it, or what the search found, in the order of the page."""
    settings: Settings = request.app.state.settings
    if choice.searches:
        rows = _found(settings, session, visible, choice)
    else:
        top = queries.directory(session, visible, choice.path, choice.filesystem)
        sort, window = (choice.sort, choice.basis), slice(0, downloads.MOST_ROWS)
        rows = browsing.listing(session, visible, top, sort, settings, window).rows
        for row in rows:
            row["path"] = _path(choice, row)
    return downloads.csv("files", downloads.ENTRIES, rows)


def _found(
    settings: Settings, session: orm.Session, visible: Visibility, choice: BrowseChoice
) -> list[Row]:
    """The first FOUND_ROWS that the search finds, in the order that was chosen.

    Raises:
        InvalidError: a size, an age or a pattern cannot be understood.
        NotFoundError: there is no such account.
    """
    name = choice.name.encode("utf-8", "surrogateescape")
    if name and not set(name) & set(b"*?["):
        name = b"*" + name + b"*"
    question = Question(
        name=name or None,
        larger_than_bytes=units.parse_bytes(choice.larger) if choice.larger else None,
        older_than_s=int(units.parse_duration_s(choice.older)) if choice.older else None,
        basis=choice.basis,
        uid=identity.uid_of(choice.owner) if choice.owner else None,
    )
    selection = Selection(choice.filesystem)
    found_in = places.of(session, visible, settings.scan_store_dir, selection, choice.path)
    # The directory itself is not in it.
    order = {"name": "path", "owner": "path"}.get(choice.sort, choice.sort)
    batches: Iterator[pa.RecordBatch] = find.search(found_in, question, find.COLUMNS)
    ordered = sorting.sorted_batches(
        settings, batches, find.COLUMNS, order, choice.basis, FOUND_ROWS
    )
    started_s = {place.scan_id: place.started_s for place in found_in}
    rows = [row for row in find.rows(ordered) if row["path"] != choice.path]
    below = len(choice.path.rstrip(b"/")) + 1
    for row in rows:
        row["name"] = row["path"][below:]
        for basis in ages.BASES:
            row[f"{basis}_age_s"] = started_s[row["scan_id"]] - row[f"{basis}_s"]
    return rows


def _crumbs(session: orm.Session, visible: Visibility, top: Row) -> list[Row]:
    """The directories on the path, from the top; those that may not be seen have no link."""
    crumbs: list[Row] = []
    path: bytes = top["path"]
    while path != b"/" and path:
        above, _, name = path.rpartition(b"/")
        crumbs.append({"name": name, "path": path})
        path = above
    known = browsing.known(session, visible, top["scan_id"], [row["path"] for row in crumbs])
    for row in crumbs:
        row["link"] = browse_links.to(row["path"]) if row["path"] in known else None
    return crumbs[::-1]


def _add_looks(rows: list[Row], choice: BrowseChoice) -> None:
    """Bars, modes as `ls` writes them, and where directories lead."""
    biggest = max((row["alloc_bytes"] for row in rows), default=0)
    for row in rows:
        row["age_s"] = row[f"{choice.basis}_age_s"]
        row["bar"] = charts.of_age(row["alloc_bytes"], biggest, row["age_s"])
        row["ls"] = stat.filemode(row["mode"])
        row["what"] = KINDS.get(row["kind"])
        row["path"] = _path(choice, row)
        row["address"] = display.to_address(row["name"])
        row["link"] = browse_links.to(row["path"]) if row["kind"] == "d" else None


def _path(choice: BrowseChoice, row: Row) -> bytes:
    path: bytes = choice.path.rstrip(b"/") + b"/" + row["name"]
    return path
