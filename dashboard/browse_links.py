"""Addresses of the file browser and of the pages of permissions, for the pages that lead there."""

from urllib.parse import urlencode

from sqlalchemy import orm

from dashboard import choices
from datamgr import catalog
from datamgr.config import Settings
from datamgr.errors import NotFoundError
from datamgr.identity import Caller
from pitoolbox import authorise


def to(path: bytes) -> str:
    """The address of a directory's listing."""
    return "/browse?" + urlencode({"at": choices.encode_path(path)})


def permissions(
    session: orm.Session, settings: Settings, caller: Caller, project: str, path: bytes
) -> str | None:
    """Where the permissions in a directory are changed, for who may ask for that."""
    try:
        found = catalog.project(session, project)
    except NotFoundError:
        return None
    inside = path == found.path or path.startswith(found.path.rstrip(b"/") + b"/")
    if not inside or not authorise.acts_for(settings, caller, found):
        return None
    below = path[len(found.path) :].strip(b"/") or b"."
    place = {"project": project, "at": choices.encode_path(below)}
    return "/perms/browse?" + urlencode(place)
