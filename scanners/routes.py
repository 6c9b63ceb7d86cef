"""Scans and usage over HTTP: the same questions as `datamgr scan` and `datamgr usage`."""

import base64
import binascii
import os
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query

from datamgr.api.deps import Account, Name, ReadSession
from datamgr.errors import InvalidError
from scanners import answers, leaders, queries, visibility
from scanners import growth as growing
from scanners.queries import Row, Selection
from scanners.visibility import Visibility

router = APIRouter(prefix="/api/v1", tags=["usage"])

Number = Annotated[int, Query(ge=1, le=10_000, description="How many rows.")]
Basis = Literal["atime", "mtime", "ctime"]


def _visible(session: ReadSession, caller: Account) -> Visibility:
    """What this request may show."""
    return visibility.of(session, caller)


Visible = Annotated[Visibility, Depends(_visible, scope="function")]


@router.get(
    "/scans", response_model=answers.Answer[answers.ScanRow], response_model_exclude_unset=True
)
def scans(session: ReadSession) -> Row:
    """All scans, oldest first; `current` marks the one that answers for its file system."""
    rows = queries.scans(session)
    return answers.of("scan.list", rows)


@router.get(
    "/usage/projects", response_model=answers.ProjectsAnswer, response_model_exclude_unset=True
)
def projects(
    session: ReadSession, visible: Visible, project: Name = None, filesystem: Name | None = None
) -> Row:
    """Projects against their quotas, biggest first."""
    selection = Selection(filesystem, project)
    rows = queries.projects(session, visible, selection)
    scanned = queries.scanned(session, selection)
    return answers.of("usage.projects", rows, project=project, scans=scanned)


@router.get("/usage/owners", response_model=answers.OwnersAnswer, response_model_exclude_unset=True)
def owners(
    session: ReadSession,
    visible: Visible,
    by: Literal["user", "group"] = "user",
    project: Name = None,
    filesystem: Name = None,
) -> Row:
    """Totals by user or unix group, biggest first."""
    selection = Selection(filesystem, project)
    rows = queries.by_owner(session, visible, selection, by)
    scanned = queries.scanned(session, selection)
    return answers.of(f"usage.by_{by}", rows, project=project, scans=scanned)


@router.get("/usage/top", response_model=answers.TopAnswer, response_model_exclude_unset=True)
def top(
    session: ReadSession,
    visible: Visible,
    what: Literal["files", "dirs"] = "files",
    number: Number = 10,
    project: Name = None,
    user: Name = None,
    filesystem: Name = None,
) -> Row:
    """The biggest files or directories by space on disk."""
    selection = Selection(filesystem, project, user)
    find = leaders.files if what == "files" else leaders.directories
    rows = find(session, visible, selection, number)
    scanned = queries.scanned(session, selection)
    return answers.of(f"usage.top_{what}", rows, project=project, user=user, scans=scanned)


@router.get(
    "/usage/directory", response_model=answers.DirectoryAnswer, response_model_exclude_unset=True
)
def directory(
    session: ReadSession,
    visible: Visible,
    path: Annotated[str | None, Query(description="Absolute path.")] = None,
    path_b64: Annotated[
        str | None, Query(description="The same in base64, for a path that is not UTF-8.")
    ] = None,
    filesystem: Name = None,
) -> Row:
    """The recursive totals of a directory and of the directories in it."""
    parent = queries.directory(session, visible, _path(path, path_b64), filesystem)
    rows = queries.children(session, visible, parent)
    scanned = queries.scanned(session, Selection(filesystem))
    return answers.of("usage.dir", rows, directory=parent, scans=scanned)


@router.get("/usage/ages", response_model=answers.AgesAnswer, response_model_exclude_unset=True)
def ages(
    session: ReadSession,
    visible: Visible,
    basis: Basis = "mtime",
    project: Name = None,
    user: Name = None,
    filesystem: Name = None,
) -> Row:
    """Files by age since the last read, change of content, or change of anything."""
    selection = Selection(filesystem, project, user)
    rows = queries.ages_of_files(session, visible, selection, basis)
    scanned = queries.scanned(session, selection)
    return answers.of("usage.age", rows, basis=basis, project=project, user=user, scans=scanned)


@router.get("/usage/growth", response_model=answers.GrowthAnswer, response_model_exclude_unset=True)
def growth(
    session: ReadSession,
    visible: Visible,
    since: Annotated[
        datetime | None,
        Query(description="Compare with the last scan up to this time; default the scan before."),
    ] = None,
    by: Literal["project", "user", "directory"] | None = None,
    number: Number = 10,
    project: Name = None,
    filesystem: Name = None,
) -> Row:
    """What grew between two scans; `number` limits the directories of each file system."""
    selection = Selection(filesystem, project)
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    pairs = growing.require_pairs(session, visible, selection, since)
    rows: list[Row] = []
    for pair in pairs:
        rows += growing.changes(session, visible, pair, selection, number, by)
    return answers.of("usage.growth", rows, scans=pairs)


def _path(text: str | None, encoded: str | None) -> bytes:
    """The directory that is meant, as an absolute path without `..`.

    Raises:
        InvalidError: neither or both were given, or it is not absolute.
    """
    if (text is None) == (encoded is None):
        raise InvalidError("say which directory, by either path or path_b64")
    try:
        path = base64.b64decode(encoded or "", validate=True) if text is None else text.encode()
    except (binascii.Error, ValueError) as error:
        raise InvalidError("path_b64 is no base64") from error
    if not path.startswith(b"/"):
        raise InvalidError("the path must be absolute, such as /global/cfs/cosmo")
    # Two leading slashes, which POSIX lets mean something else, mean one on Linux.
    return os.path.normpath(b"/" + path.lstrip(b"/"))
