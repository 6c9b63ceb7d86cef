"""Who calls: the account, its groups and its role."""

import grp
import os
import pwd
from dataclasses import dataclass
from enum import StrEnum

from datamgr.config import Settings
from datamgr.errors import NotFoundError


class Role(StrEnum):
    """What somebody is to the centre; what they are to a project is `catalog.ProjectRole`."""

    USER = "user"
    STAFF = "staff"


@dataclass(frozen=True)
class Caller:
    """An account as the system knows it at this moment."""

    username: str
    uid: int
    gids: frozenset[int]
    role: Role

    @property
    def is_staff(self) -> bool:
        """Whether the caller may see and do what staff may."""
        return self.role is Role.STAFF


def current(settings: Settings) -> Caller:
    """Who runs this process, by its real user id."""
    return by_uid(settings, os.getuid())


def by_uid(settings: Settings, uid: int) -> Caller:
    """The account with this number; root is staff. Groups are asked of the name service now.

    An account without a name (a container's, say) is called by its number and has no groups.
    """
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        role = Role.STAFF if uid == 0 else Role.USER
        return Caller(str(uid), uid, frozenset(), role)
    gids = frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))
    staff_gids = set(map(_gid_or_none, settings.identity.staff_groups))
    staff = uid == 0 or entry.pw_name in settings.identity.staff_users or bool(gids & staff_gids)
    return Caller(entry.pw_name, uid, gids, Role.STAFF if staff else Role.USER)


def uid_of(username: str) -> int:
    """The number of an account, given by name or number.

    Raises:
        NotFoundError: there is no such account.
    """
    if _is_number(username):
        return int(username)
    try:
        return pwd.getpwnam(username).pw_uid
    except (KeyError, ValueError):  # no name can have a NUL
        raise NotFoundError(f"there is no account {username!r} on this machine") from None


def gid_of(group: str) -> int:
    """The number of a unix group, given by name or number.

    Raises:
        NotFoundError: there is no such group.
    """
    if _is_number(group):
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):
        raise NotFoundError(f"there is no unix group {group!r} on this machine") from None


def _is_number(text: str) -> bool:
    """Whether it is a number that the kernel gives to accounts and groups. Source: chown(2)."""
    return text.isdecimal() and len(text) <= 10 and int(text) < 2**32 - 1


def username_of(uid: int) -> str:
    """The account's name, or its number when it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name_of(gid: int) -> str:
    """The group's name, or its number when it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _gid_or_none(group: str) -> int | None:
    try:
        return gid_of(group)
    except NotFoundError:
        return None
