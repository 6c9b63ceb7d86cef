"""The accounts that the configuration names, as numbers."""

import os
import pwd

from datamgr.config_pitoolbox import PitoolboxSettings
from datamgr.errors import InvalidError


def to_become(section: PitoolboxSettings) -> tuple[int, int] | None:
    """Uid and gid that a privileged process becomes; None for whoever is not root, who stays.

    Raises:
        InvalidError: there is no such account, or it is root.
    """
    if os.geteuid() != 0:
        return None
    found = _entry(section.account, "account")
    if found.pw_uid == 0:
        raise InvalidError("pitoolbox.account must not be root; name an account without rights")
    return found.pw_uid, found.pw_gid


def of_web(section: PitoolboxSettings) -> tuple[int, int] | None:
    """Uid and gid of the account of the web pages, None where none is configured.

    Raises:
        InvalidError: there is no such account.
    """
    if section.web_account is None:
        return None
    found = _entry(section.web_account, "web_account")
    return found.pw_uid, found.pw_gid


def _entry(name: str, setting: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except (KeyError, OverflowError, ValueError):
        message = f"there is no account {name!r}; name one in pitoolbox.{setting}"
        raise InvalidError(message) from None
