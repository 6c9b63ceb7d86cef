"""The names of owners for lists and tables, as they were within the last minute.

Tables name thousands of accounts, and a name service takes a tenth of a millisecond for each, or
much longer across a network. Decisions want the names of now: see `identity`.
"""

import functools
import time

from datamgr import identity

_KEPT_S = 60
_MOST = 100_000


def user_name(uid: int) -> str:
    """The account's name, or its number when it has none."""
    return _user(uid, _now())


def group_name(gid: int) -> str:
    """The group's name, or its number when it has none."""
    return _group(gid, _now())


def _now() -> int:
    """Another number every minute, by which what was looked up before is not found again."""
    return int(time.monotonic() // _KEPT_S)


@functools.lru_cache(maxsize=_MOST)
def _user(uid: int, now: int) -> str:
    return identity.username_of(uid)


@functools.lru_cache(maxsize=_MOST)
def _group(gid: int, now: int) -> str:
    return identity.group_name_of(gid)
