"""What somebody must be to list a directory: the modes on its path as one short text.

A scan gives each directory an *access*: demands that have to be met together, parted by blanks.
A demand is what one directory on the path asks for, `bits:uid:gid`: whether its owner, its group
and others may pass, such as `110:0:2002`. The number of the group is left out where it makes no
difference. Directories that everybody may pass demand nothing, so most accesses are short and
few of them differ.

Whoever may search a directory but not list it (mode 0711) reaches what is in it without ever
learning names. Such a demand to list ends with `@` and the level of its directory: it counts in
a project that has the directory in it, and not in one that lies below.
"""

import errno
import functools
import os
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

# The access of what nobody but staff may see: because the modes say so, or for lack of knowledge.
HIDDEN = "!"

# Longer accesses are hidden, so that nobody can make a scan grow by odd chains of directories.
MAX_DEMANDS = 64

# Present where more than the mode decides.
# Source: acl(5); nfs4_acl(5); the kernel's include/uapi/linux/xattr.h.
_ACL_NAMES = frozenset({"system.posix_acl_access", "system.nfs4_acl", "system.richacl"})
_NOBODY, _EVERYBODY = "000", "111"


@functools.lru_cache(maxsize=1 << 16)
def extended(above: str, level: int, uid: int, gid: int, mode: int, has_acl: bool = False) -> str:
    """The access of a directory in one that has the access `above`; "" is that of `/` open to all.

    `level` is how many names the path of the directory has. Of a directory with an ACL only the
    owner is sure to have what the mode says. The class is chosen as the kernel does: the owner
    has the owner's rights even where the group has more.
    Source: path_resolution(7), inode(7), acl(5).
    """
    if above == HIDDEN:
        return HIDDEN
    shifts = (6,) if has_acl else (6, 3, 0)
    search, both = (
        "".join(str(int((mode >> s) & bits == bits)) for s in shifts).ljust(3, "0")
        for bits in (stat.S_IXOTH, stat.S_IROTH | stat.S_IXOTH)
    )
    demands = {*above.split(), _demand(search, uid, gid)}
    if both != search:
        demands.add(f"{_demand(both, uid, gid)}@{level}")
    demands.discard("")
    if _NOBODY in demands or len(demands) > MAX_DEMANDS:
        return HIDDEN
    return " ".join(sorted(demands))


def above_root(root: bytes) -> str:
    """What the directories above an absolute path demand, as this machine has them.

    Raises:
        OSError: one of them vanished.
    """
    access, path = "", b"/"
    for name in root.split(b"/"):
        path = os.path.join(path, name)
        if path == root:
            break
        status = os.stat(path, follow_symlinks=False)
        acl = has_acl(path)
        access = extended(access, level(path), status.st_uid, status.st_gid, status.st_mode, acl)
    return access


def has_acl(directory: int | bytes) -> bool:
    """Whether an open directory, or the one at a path, has or may have an access control list."""
    try:
        return not _ACL_NAMES.isdisjoint(os.listxattr(directory))
    except NotImplementedError:
        return True
    except OSError as error:
        # Without extended attributes there are no lists either.
        return error.errno != errno.ENOTSUP


def level(path: bytes) -> int:
    """How many names an absolute, normalised path has."""
    return path.count(b"/") if path != b"/" else 0


def resolved(access: str, top_level: int) -> str:
    """The demands of a directory in a project whose top has this level, without levels."""
    if access == HIDDEN:
        return HIDDEN
    demands = set()
    for demand in access.split():
        bits, _, at = demand.partition("@")
        if not at or int(at) >= top_level:
            demands.add(bits)
    return HIDDEN if _NOBODY in demands else " ".join(sorted(demands))


def is_met(requirement: str, uid: int, gids: Collection[int]) -> bool:
    """Whether an account meets all demands of a `resolved` access."""
    return requirement != HIDDEN and all(
        _meets(demand, uid, gids) for demand in requirement.split()
    )


@dataclass(frozen=True)
class Rules:
    """The few different requirements of a scan, numbered from 1.

    `number_of` has the number for each access and project that occur.
    """

    requirements: Mapping[int, str]
    number_of: Mapping[tuple[str, int], int]


def rules(found: Iterable[tuple[str, int]], top_levels: Mapping[int, int]) -> Rules:
    """The rules for accesses with the numbers of their projects.

    `top_levels` has the level of the top of each project.
    """
    needed = {pair: resolved(pair[0], top_levels[pair[1]]) for pair in found}
    numbers = {text: number for number, text in enumerate(sorted(set(needed.values())), 1)}
    return Rules(
        {number: text for text, number in numbers.items()},
        {pair: numbers[text] for pair, text in needed.items()},
    )


def _demand(bits: str, uid: int, gid: int) -> str:
    if bits in (_NOBODY, _EVERYBODY):
        return bits if bits == _NOBODY else ""
    return f"{bits}:{uid}" if bits[1] == bits[2] else f"{bits}:{uid}:{gid}"


def _meets(demand: str, uid: int, gids: Collection[int]) -> bool:
    bits, owner, *group = demand.split(":")
    if uid == int(owner):
        return bits[0] == "1"
    if group and int(group[0]) in gids:
        return bits[1] == "1"
    return bits[2] == "1"
