"""From a request in names to an order in numbers, with everything refused that can be early.

The executor believes none of it: it refuses the same again.
"""

import os
import stat
from collections.abc import Sequence

from datamgr import born, display, identity
from datamgr.catalog import Project
from datamgr.config import Settings
from datamgr.errors import ForbiddenError, InvalidError, NotFoundError, UnavailableError
from datamgr.identity import Caller
from pitoolbox import modes
from pitoolbox import paths as below
from pitoolbox.executor import Order
from pitoolbox.requests import MAX_DEPTH, ActionKind, Request


def order_of(settings: Settings, project: Project, request: Request, requester: Caller) -> Order:
    """The order that the request means now, when asked for by `requester`.

    Whether the requester acts for the project is for `authorise` to say.

    Raises:
        InvalidError: the project cannot be worked on, or the mode, the group or the owner is not
            for its files.
        NotFoundError: there is no such group or account.
        ForbiddenError: the requester may not override, or is not in the group.
    """
    device, inode = pin(project)
    roots = [os.fsencode(root).rstrip(b"/") + b"/" for root in settings.pitoolbox.roots]
    if roots and not project.path.startswith(tuple(roots)):
        shown = display.printable(project.path)
        raise InvalidError(f"{shown} is below none of the directories in pitoolbox.roots")
    if request.override and not requester.is_staff:
        raise ForbiddenError(
            f"{requester.username} may not override the rules of ownership: that is for staff"
        )
    gids = project_gids(settings, project)
    if not requester.is_staff and requester.uid < settings.pitoolbox.min_uid:
        raise ForbiddenError(f"{requester.username} is one of the system's accounts")
    if not requester.is_staff and requester.gids.isdisjoint(gids):
        raise ForbiddenError(
            f"{requester.username} is in no unix group of project {project.name}, "
            "so none of its files can be theirs to change"
        )
    uid, gid = -1, -1
    clauses: Sequence[modes.Clause] = ()
    # An undo brings back what was there: its action only says what is undone.
    if request.undo_of is None:
        action = request.action
        if action.kind is ActionKind.CHGRP:
            gid = _gid(project, str(action.group), gids, requester)
        elif action.kind is ActionKind.CHMOD:
            clauses = modes.parse(str(action.mode))
        elif action.kind is ActionKind.CHOWN:
            uid = _uid(settings, project, str(action.user), gids, override=request.override)
        else:
            gid = _gid(project, own_group(project), gids, requester)
            clauses = modes.SHARE
    return Order(
        root=project.path,
        device=device,
        inode=inode,
        groups=sorted(gids),
        requester=requester.uid,
        override=request.override,
        dry_run=request.dry_run,
        uid=uid,
        gid=gid,
        clauses=clauses,
        recursive=request.recursive,
        max_depth=MAX_DEPTH if request.max_depth is None else request.max_depth,
        files=request.only != "directories",
        directories=request.only != "files",
    )


def relative_paths(project: Project, given: Sequence[bytes]) -> tuple[bytes, ...]:
    """What somebody named, each once, as paths below the project's root.

    Raises:
        InvalidError: one is empty, or outside, or goes up.
    """

    def is_root(path: bytes) -> bool:
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            return False
        return (found.st_dev, found.st_ino) == (project.root_device, project.root_inode)

    return tuple(dict.fromkeys(below.relative(project.path, path, is_root) for path in given))


def project_gids(settings: Settings, project: Project) -> frozenset[int]:
    """The numbers of the unix groups whose members and files are the project's.

    Raises:
        InvalidError: the project has none, or one is the system's.
        NotFoundError: one is not known on this machine.
    """
    own = [project.unix_group] if project.unix_group else []
    names = (*own, *settings.pitoolbox.groups.get(project.name, ()))
    if not names:
        own_group(project)
    gids = frozenset(identity.gid_of(name) for name in names)
    for gid in gids:
        if gid < settings.pitoolbox.min_gid:
            raise InvalidError(
                f"group {identity.group_name_of(gid)} of project {project.name} is one of the "
                "system's; see pitoolbox.min_gid"
            )
    return gids


def own_group(project: Project) -> str:
    """The unix group of the project.

    Raises:
        InvalidError: none was registered.
    """
    if project.unix_group is None:
        raise InvalidError(
            f"project {project.name} has no unix group; "
            f"staff can set it by `datamgr project set {project.name} --group GROUP`"
        )
    return project.unix_group


def pin(project: Project) -> tuple[int, int]:
    """Device and inode of the project's root, checked as far as this process can see it.

    Raises:
        InvalidError: it was replaced, is gone, is `/`, or was never pinned.
        UnavailableError: it cannot be reached.
    """
    shown = display.printable(project.path)
    if project.path == b"/":
        raise InvalidError(f"project {project.name} is / itself, where nothing may be changed")
    again = f"staff can register it by `datamgr project set {project.name} --path {shown}`"
    if project.root_device is None or project.root_inode is None:
        raise InvalidError(f"it is not known which directory {shown} was registered; {again}")
    pinned = project.root_device, project.root_inode
    try:
        found = os.stat(project.path, follow_symlinks=False)
    except PermissionError:
        return pinned  # the executor can look
    except FileNotFoundError:
        raise InvalidError(f"{shown} is not there any more; {again}") from None
    except OSError as error:
        raise UnavailableError(f"{shown} cannot be reached: {error.strerror}") from error
    same = (found.st_dev, found.st_ino) == pinned and stat.S_ISDIR(found.st_mode)
    if not same or _was_reborn(project):
        raise InvalidError(
            f"{shown} is not the directory that was registered: it was replaced; {again}"
        )
    return pinned


def _was_reborn(project: Project) -> bool:
    """Whether another directory got the number of the registered one, once that was removed."""
    if project.root_born_ns is None:
        return False
    try:
        return born.born_ns(project.path) not in (None, project.root_born_ns)
    except OSError:
        return False


def _gid(project: Project, group: str, gids: frozenset[int], requester: Caller) -> int:
    gid = identity.gid_of(group)
    name = identity.group_name_of(gid)
    if gid not in gids:
        known = ", ".join(sorted(map(identity.group_name_of, gids)))
        raise InvalidError(f"group {name} is none of project {project.name}; those are {known}")
    if not requester.is_staff and gid not in requester.gids:
        raise ForbiddenError(
            f"{requester.username} is not in group {name}, so may give no file to it"
        )
    return gid


def _uid(
    settings: Settings, project: Project, user: str, gids: frozenset[int], *, override: bool
) -> int:
    uid = identity.uid_of(user)
    found = identity.by_uid(settings, uid)
    if uid < settings.pitoolbox.min_uid:
        raise InvalidError(f"account {user} is one of the system's, so may be given no file")
    if not found.gids:
        raise NotFoundError(f"there is no account with the number {uid} on this machine")
    if not override and found.gids.isdisjoint(gids):
        raise InvalidError(f"account {user} does not belong to project {project.name}")
    return uid
