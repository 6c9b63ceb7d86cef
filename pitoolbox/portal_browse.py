"""The pages on which somebody looks into a project and says what is to be changed."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, BeforeValidator
from sqlalchemy import orm

from datamgr import catalog, display, identity
from datamgr.api import auth
from datamgr.api.deps import Account, Page, ReadSession
from datamgr.catalog import Project
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import DatamgrError, ForbiddenError, InvalidError, NotFoundError
from datamgr.identity import Caller
from pitoolbox import authorise, listing, paths, queries, requests, resolve, submission
from pitoolbox.listing_cli import shown_mode
from pitoolbox.requests import Action, ActionKind

router = APIRouter(prefix="/perms", include_in_schema=False)

Sort = Literal["name", "size", "mtime"]
SORTS = {"name": "name", "size": "largest first", "mtime": "newest first"}
PAGE_ENTRIES = 200
RECENT = 10
# What most people want, as the group's rights.
MODES = {
    "g+rX": "may read, and enter directories",
    "g+rwX": "may read and write",
    "g-w": "may not write",
    "g-rwx": "may do nothing",
}
Name = Annotated[str, Query(max_length=1100, pattern=r"^[^\x00]*$")]
# As long as a path can be, in base64url.
Address = Annotated[str, Query(max_length=6000, pattern=r"^[A-Za-z0-9_-]*$")]
Word = Annotated[str, Form(max_length=300)]


@dataclass(frozen=True)
class Place:
    """Which directory of which project is listed how; every change of it is a link."""

    project: str
    at: str = ""
    sort: Sort = "name"
    after: str = ""
    all: bool = False

    @property
    def path(self) -> bytes:
        """The directory, relative to the project."""
        path = display.from_address(self.at) or paths.ROOT
        paths.require_plain(path)
        return path

    def url(self, **changes: Any) -> str:
        """The address with these changed, less what is as it is by default."""
        wanted = vars(replace(self, **changes))
        query = {name: value for name, value in wanted.items() if value not in ("", "name", False)}
        return "/perms/browse?" + urlencode({"project": self.project} | query)

    def into(self, path: bytes) -> str:
        """The address of another directory of the project, from its begin."""
        return self.url(at=display.to_address(path), after="", all=False)


def _place(
    project: Name, at: Address = "", sort: Sort = "name", after: Address = "", all: bool = False
) -> Place:
    return Place(project, at, sort, after, all)


class Asked(BaseModel):
    """The form, as it was filled in. `names` are base64url, of what lies in the directory `at`."""

    project: Word
    at: Annotated[str, Form(max_length=6000)] = ""
    sort: Sort = "name"
    after: Annotated[str, Form(max_length=6000)] = ""
    names: list[str] = []
    kind: ActionKind | None = None
    group: Word = ""
    mode: Word = ""
    user: Word = ""
    recursive: bool = False
    max_depth: Annotated[int | None, BeforeValidator(lambda v: v or None)] = None
    only: Annotated[
        Literal["files", "directories"] | None, BeforeValidator(lambda v: v or None)
    ] = None
    override: bool = False

    def request(self, given: tuple[bytes, ...], client: str) -> requests.Request:
        """What is asked for, as a preview.

        Raises:
            InvalidError: no action is chosen, or its argument is missing.
        """
        if self.kind is None:
            raise InvalidError("choose what is to be done")
        argument = requests.ARGUMENTS[self.kind]
        told = {argument: getattr(self, argument).strip()} if argument else {}
        if not all(told.values()):
            raise InvalidError(f"{self.kind} needs a {argument}; fill it in")
        recursive = self.recursive or self.kind is ActionKind.SHARE
        return requests.Request(
            project=self.project,
            action=Action(self.kind, **told),
            paths=given,
            recursive=recursive,
            max_depth=self.max_depth if recursive else None,
            only=self.only,
            override=self.override,
            dry_run=True,
            client=client,
        )

    def selected(self) -> list[bytes]:
        """The paths below the project that are ticked.

        Raises:
            InvalidError: one is no name in this directory, or nothing is ticked.
        """
        folder = Place(self.project, self.at).path
        names = [display.from_address(name) for name in self.names]
        if not names:
            raise InvalidError("nothing is selected: tick what is to be changed")
        for name in names:
            if b"/" in name or name in (b"", b".."):
                raise InvalidError("what is selected is no name in this directory")
        return [folder if name == b"." else os.path.join(folder, name) for name in names]


Chosen = Annotated[Place, Depends(_place)]


@router.get("", response_class=HTMLResponse)
def overview(request: Request, session: ReadSession, caller: Account, page: Page) -> HTMLResponse:
    """The projects in which the caller may ask for changes, and the newest requests."""
    settings: Settings = request.app.state.settings
    values = {
        "projects": authorise.projects(session, settings, caller),
        "rows": queries.list_requests(session, settings, caller, limit=RECENT),
        "worker_runs": queries.worker_runs(session),
    }
    return page("perms.html", values)


@router.get("/browse", response_class=HTMLResponse)
def browse(
    request: Request,
    session: ReadSession,
    caller: Account,
    page: Page,
    place: Chosen,
    path: Annotated[str | None, Query(max_length=4200)] = None,
) -> Response:
    """What is in a directory now; `path`, as somebody typed it, leads to its own address."""
    settings: Settings = request.app.state.settings
    if path is not None:
        given = path.strip().encode("utf-8", "surrogateescape") or paths.ROOT
        found = submission.select(session, settings, caller, place.project, [given])
        return RedirectResponse(place.into(found[0]), 303)
    asked = Asked(project=place.project, recursive=True)
    return page("perms_browse.html", _values(settings, session, caller, place, asked))


@router.post("/requests")
def ask(request: Request, caller: Account, page: Page, asked: Annotated[Asked, Form()]) -> Response:
    """Queue a preview of what the form asks for, and show it; or the form again, and why not."""
    settings: Settings = request.app.state.settings
    database: Database = request.app.state.database
    try:
        with database.transaction() as session:
            given = submission.select(session, settings, caller, asked.project, asked.selected())
            wanted = asked.request(given, f"web pages, {auth.client_of(request)}")
            task_id = submission.submit(session, settings, caller, wanted).id
    except (InvalidError, NotFoundError, ForbiddenError) as error:
        place = Place(asked.project, asked.at, asked.sort, asked.after)
        with database.transaction(read_only=True) as session:
            values = _values(settings, session, caller, place, asked, error)
            return page("perms_browse.html", values, error.status)
    return RedirectResponse(f"/perms/requests/{task_id}", 303)


def _values(
    settings: Settings,
    session: orm.Session,
    caller: Caller,
    place: Place,
    asked: Asked,
    error: DatamgrError | None = None,
) -> dict[str, Any]:
    found = listing.list_directory(
        settings,
        session,
        caller,
        place.project,
        place.path,
        after=display.from_address(place.after) if place.after else None,
        limit=PAGE_ENTRIES,
        sort=place.sort,
    )
    project = catalog.project(session, place.project)
    return {
        "place": place,
        "top": place.into(paths.ROOT),
        "itself": display.to_address(paths.ROOT),
        "project": project,
        "here": found.path,
        "whole": project.path if found.path == paths.ROOT else project.path + b"/" + found.path,
        "crumbs": _crumbs(place, found.path),
        "listing": found,
        "rows": [_row(place, found.path, entry) for entry in found.entries],
        "here_mode": shown_mode(found.here),
        "following": None if found.after is None else display.to_address(found.after),
        "sorts": SORTS,
        "modes": MODES,
        "groups": _groups(settings, project, caller),
        "asked": asked,
        "ticked": set(asked.names),
        "problem": None if error is None else str(error),
    }


def _row(place: Place, folder: bytes, entry: listing.Entry) -> dict[str, Any]:
    path = entry.name if folder == paths.ROOT else folder + b"/" + entry.name
    return {
        "entry": entry,
        "address": display.to_address(entry.name),
        "mode": shown_mode(entry),
        "link": place.into(path) if entry.kind == "d" else None,
    }


def _crumbs(place: Place, path: bytes) -> list[tuple[bytes, str]]:
    """The directories on the path below the project, each with its address."""
    names = [] if path == paths.ROOT else path.split(b"/")
    return [(name, place.into(b"/".join(names[: end + 1]))) for end, name in enumerate(names)]


def _groups(settings: Settings, project: Project, caller: Caller) -> Sequence[str]:
    """The groups of the project to which the caller may give files, its own first."""
    try:
        gids = resolve.project_gids(settings, project)
    except DatamgrError:
        return ()  # the form says so when it is sent
    if not caller.is_staff:
        gids &= caller.gids
    names = sorted(map(identity.group_name_of, gids))
    return sorted(names, key=lambda name: name != project.unix_group)
