"""Who may ask for changes in a project: its PIs, those who act for them, and staff.

Asked when a request is submitted, and again when it is carried out.
"""

from sqlalchemy import orm

from datamgr import catalog, identity
from datamgr.catalog import Project
from datamgr.config import Settings
from datamgr.errors import ForbiddenError, NotFoundError
from datamgr.identity import Caller


def acts_for(settings: Settings, caller: Caller, project: Project) -> bool:
    """Whether the caller is PI or proxy of the project, as registered or by group, or staff."""
    if caller.is_staff:
        return True
    # Accounts may have been registered by number.
    if not {caller.username, str(caller.uid)}.isdisjoint(project.pis + project.proxies):
        return True
    patterns = (settings.pitoolbox.pi_groups, settings.pitoolbox.proxy_groups)
    return any(_is_in(caller, pattern, project) for pattern in patterns if pattern is not None)


def require(settings: Settings, caller: Caller, project: Project) -> None:
    """Stop whoever does not act for the project.

    Raises:
        ForbiddenError: the caller is neither PI nor proxy of it, nor staff.
    """
    if not acts_for(settings, caller, project):
        raise ForbiddenError(
            f"{caller.username} may not ask for changes in project {project.name}: "
            "that is for its PIs, those who act for them, and staff"
        )


def projects(session: orm.Session, settings: Settings, caller: Caller) -> list[Project]:
    """The projects in which the caller may ask for changes, by name."""
    return [found for found in catalog.projects(session) if acts_for(settings, caller, found)]


def _is_in(caller: Caller, pattern: str, project: Project) -> bool:
    group = pattern.replace("{project}", project.name)
    if group.isdecimal():
        return False  # the name of a project must not become the number of a group
    try:
        return identity.gid_of(group) in caller.gids
    except NotFoundError:
        return False
