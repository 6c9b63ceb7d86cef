"""For what of a managed root somebody acts: the projects of which he is PI or proxy."""

import os

from sqlalchemy import orm

from datamgr import catalog
from datamgr.identity import Caller
from tiering.access import Rights
from tiering.root import ManagedRoot


def of(session: orm.Session, caller: Caller, root: ManagedRoot) -> Rights:
    """The rights of a caller below a root."""
    top = os.fsencode(root.settings.root)
    names = {caller.username, str(caller.uid)}
    managed = []
    for project in catalog.projects(session):
        if names.isdisjoint(project.pis + project.proxies):
            continue
        if project.path == top or top.startswith(project.path.rstrip(b"/") + b"/"):
            managed.append(b".")
        elif project.path.startswith(top.rstrip(b"/") + b"/"):
            managed.append(os.path.relpath(project.path, top))
    return Rights(caller, tuple(managed))
