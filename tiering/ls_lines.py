"""How `ghi ls` shows files: lines for people and rows for programs, many at a time."""

import grp
import pwd
import stat
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from datamgr import display
from tiering.listing import Found

_SIX_MONTHS_S = 182 * 86_400

State = tuple[str, str]  # marks and place, as `tiering.states.States`
NO_FILE: State = ("-    ", "")


def short(found: Sequence[Found], states: Sequence[State]) -> str:
    """Marks and path, a line each."""
    shown = display.printable_all([path for path, _ in found])
    return "".join([f"{marks} {path}\n" for path, (marks, _) in zip(shown, states, strict=True)])


def long(found: Sequence[Found], states: Sequence[State]) -> str:
    """Also mode, owner, group, size, time, and where the archive has it, a line each."""
    shown = display.printable_all([path for path, _ in found])
    lines = []
    for path, (_, status), (marks, place) in zip(shown, found, states, strict=True):
        mode, _, _, _, uid, gid, size, _, mtime, _ = status
        lines.append(
            f"{marks} {_owned(mode, uid, gid)} {size:>12} {_time(mtime // 60)} {path}"
            f"{'  ' if place else ''}{place}\n"
        )
    return "".join(lines)


def rows(found: Sequence[Found], states: Sequence[State]) -> Iterator[dict[str, Any]]:
    """As `--json` tells it."""
    for (path, status), (marks, place) in zip(found, states, strict=True):
        yield {
            "path": path,
            "state": None if marks[0] == "-" else marks[0],
            "changed": "c" in marks,
            "pinned": "p" in marks,
            "locked": "l" in marks,
            "busy": "~" in marks,
            "place": place or None,
            "mode": stat.filemode(status.st_mode),
            "uid": status.st_uid,
            "gid": status.st_gid,
            "size_bytes": status.st_size,
            "disk_bytes": status.st_blocks * 512,
            "mtime_ns": status.st_mtime_ns,
        }


@lru_cache(maxsize=4096)
def _owned(mode: int, uid: int, gid: int) -> str:
    return f"{stat.filemode(mode)} {_user(uid):<8} {_group(gid):<8}"


# No zone differs from UTC by parts of a minute since 1972. Source: tz database, Africa/Monrovia.
@lru_cache(maxsize=1 << 16)
def _time(minute: int) -> str:
    """As ls: the time of day of what is young, the year of what is old."""
    when = minute * 60
    is_young = 0 <= time.time() - when < _SIX_MONTHS_S
    return time.strftime("%b %d %H:%M" if is_young else "%b %d  %Y", time.localtime(when))


@lru_cache(maxsize=1000)
def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@lru_cache(maxsize=1000)
def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
