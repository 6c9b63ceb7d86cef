"""What an entry is and what it becomes: owner, group, group bits of the mode, access ACL.

Source: chmod(1) of coreutils for the letters of a mode, acl(5), linux/posix_acl_xattr.h.
"""

import errno
import os
import stat
import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

from pitoolbox.privileged import checks, kernel
from pitoolbox.privileged.errors import FailedError, SkippedError

Found = os.stat_result | kernel.Status
_ACCESS_ACL = "system.posix_acl_access"
_FOREIGN_ACLS = {"system.nfs4_acl", "system.gpfs_nfs4_acl", "system.richacl"}
_ACLS = {_ACCESS_ACL, *_FOREIGN_ACLS}
_FILE_CAPABILITIES = "security.capability"
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 1, 2, 4, 8, 16, 32


class State(NamedTuple):
    """Owner, group, mode without the file type, and the access ACL as the kernel stores it."""

    uid: int
    gid: int
    mode: int
    acl: bytes | None

    def line(self) -> str:
        """As it goes over the pipe and into the journal: a part of a line of CSV."""
        uid, gid, mode, acl = self
        return f"{uid},{gid},{mode},{'' if acl is None else acl.hex()}"

    @classmethod
    def heard(cls, told: Any) -> "State":
        """As it came over the pipe; raises ValueError or TypeError on anything else."""
        uid, gid, mode, acl = told
        return cls(
            checks.integer(uid, 0, checks.MOST),
            checks.integer(gid, 0, checks.MOST),
            checks.integer(mode, 0, 0o7777),
            None if acl is None else bytes.fromhex(acl),
        )


def group_bits(mode: int, clauses: Iterable[tuple[str, str]]) -> int:
    """The mode after clauses such as `("+", "rX")`; only group bits and a directory's setgid.

    As chmod of coreutils: `X` where it is a directory or somebody may execute it; `=` leaves a
    directory's setgid. `s` means nothing to a file: nothing here gives away a set-id program.
    """
    is_directory = stat.S_ISDIR(mode)
    for operator, letters in clauses:
        bits = 0
        for letter in letters:
            if letter == "X":
                bits |= 0o010 if is_directory or mode & 0o111 else 0
            else:
                values = {"r": 0o040, "w": 0o020, "x": 0o010}
                copies = {"u": mode >> 3 & 0o070, "o": mode << 3 & 0o070, "g": mode & 0o070}
                bits |= values.get(letter, 0) | copies.get(letter, 0)
        if "s" in letters and is_directory:
            bits |= stat.S_ISGID
        if operator == "-":
            mode &= ~bits
        elif operator == "+":
            mode |= bits
        else:
            mode = mode & ~0o070 | bits
    return mode


def parse_acl(acl: bytes) -> list[list[int]]:
    """Tag, permissions and id of each entry. Raises SkippedError on an unknown version."""
    if len(acl) < 4 or len(acl) % 8 != 4 or struct.unpack_from("<I", acl)[0] != 2:
        raise SkippedError("its ACL is of an unknown version")
    return [list(entry) for entry in struct.iter_unpack("<HHI", acl[4:])]


def pack_acl(entries: Iterable[Iterable[int]]) -> bytes:
    """The reverse of `parse_acl`."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def with_acl(mode: int, acl: bytes, clauses: Iterable[tuple[str, str]]) -> tuple[int, bytes]:
    """Mode and ACL after the clauses, which mean the group's entry and not the mask.

    A mask that holds back what the clauses give is widened by just that, and the named entries
    are first cut to the old mask: nobody but the group may do more than before, and the group
    no more than the clauses say.
    """
    entries = parse_acl(acl)
    own = next((entry for entry in entries if entry[0] == _GROUP_OBJ), None)
    if own is None:
        raise SkippedError("its ACL has no entry for the group")
    mask = next((entry for entry in entries if entry[0] == _MASK), None)
    # `X` asks whether anybody may execute it, which the group bits of the mode say here.
    letters = [(op, what.replace("X", "x") if mode & 0o111 else what) for op, what in clauses]
    held_back = 0 if mask is None else own[1] & ~mask[1]
    changed = group_bits(mode & ~0o070 | own[1] << 3, letters)
    given = group_bits(mode & ~0o070 | (own[1] & ~held_back) << 3, letters) >> 3 & 7
    own[1] = shown = changed >> 3 & 7
    if mask is not None:
        if given & ~mask[1]:
            for entry in entries:
                if entry[0] in (_USER, _GROUP):
                    entry[1] &= mask[1]
            mask[1] |= given
        shown = mask[1]
    return changed & ~0o070 | shown << 3, pack_acl(entries)


def restored_acl(current: bytes | None, wanted: bytes | None) -> bytes | None:
    """The ACL to set so that `current` becomes `wanted`; only group, mask and named rights may
    differ. Raises SkippedError when anybody else's would change."""
    if current == wanted:
        return current
    if current is None or wanted is None:
        raise SkippedError("its ACL was changed since")
    before, after = parse_acl(current), parse_acl(wanted)
    fixed = (_USER_OBJ, _OTHER)
    same = [(tag, id_, rights if tag in fixed else 0) for tag, rights, id_ in before]
    if same != [(tag, id_, rights if tag in fixed else 0) for tag, rights, id_ in after]:
        raise SkippedError("its ACL was changed since")
    return pack_acl([tag, rights & 7, id_] for tag, rights, id_ in after)


def state_of(found: Found, acl: bytes | None) -> State:
    """The state that a status and an ACL say."""
    return State(found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), acl)


def read_acl(fd: int, mode: int, *, for_mode: bool) -> bytes | None:
    """The access ACL of an open entry, None without one.

    Raises SkippedError where a change would lose or misjudge what an entry has beside its mode.
    """
    if stat.S_ISLNK(mode):
        return None
    try:
        names = os.listxattr(kernel.proc_path(fd))
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENODATA):
            return None
        raise
    if for_mode and not _FOREIGN_ACLS.isdisjoint(names):
        raise SkippedError("it has an NFSv4 ACL, whose group rights are not those of the mode")
    if stat.S_ISREG(mode) and _FILE_CAPABILITIES in names:
        raise SkippedError("it has file capabilities, which a change would take away")
    if _ACCESS_ACL not in names:
        return None
    try:
        return os.getxattr(kernel.proc_path(fd), _ACCESS_ACL)
    except OSError as error:
        if error.errno == errno.ENODATA:  # taken away in this moment
            return None
        raise


def has_acl(path: bytes) -> bool:
    """Whether there may be more to the group's rights than the mode says."""
    try:
        return not _ACLS.isdisjoint(os.listxattr(path, follow_symlinks=False))
    except OSError as error:
        return error.errno != errno.ENOTSUP


def apply(fd: int, before: State, after: State, found: os.stat_result, *, is_known: bool) -> None:
    """Make an open entry of state `before` one of state `after`.

    `found`: its status of this moment. `is_known`: its ctime shows that its ACL is the same since.

    The owner first, for the kernel then takes set-id bits away; the mode last, for it shows the
    mask of an ACL. Raises SkippedError, having done nothing, when it changed since it was judged,
    and FailedError when the kernel does something else than asked without saying so.
    """
    with_mode = before.mode != after.mode
    acl = before.acl
    if not is_known and (with_mode or acl is not None):
        acl = read_acl(fd, found.st_mode, for_mode=with_mode)
    now = state_of(found, acl)
    if now == after:  # by another of its names, or by another process of the same order
        return
    if now != before:
        raise SkippedError("it was changed by somebody else in the same moment")
    if (before.uid, before.gid) != (after.uid, after.gid):
        kernel.change_owner(
            fd,
            -1 if before.uid == after.uid else after.uid,
            -1 if before.gid == after.gid else after.gid,
        )
    if before.acl != after.acl and after.acl is not None:
        os.setxattr(kernel.proc_path(fd), _ACCESS_ACL, after.acl)
    if with_mode:
        kernel.change_mode(fd, after.mode)
    # A setgid bit goes without a word where the right to set it is missing.
    if after.mode & 0o6000 and state_of(os.fstat(fd), after.acl) != after:
        raise FailedError("the file system made something else of it")


def is_untouched(fd: int, before: State) -> bool:
    """Whether nothing of an open entry was changed; False if that cannot be told."""
    try:
        found = os.fstat(fd)
        acl = None if before.acl is None else read_acl(fd, found.st_mode, for_mode=False)
    except (OSError, SkippedError):
        return False
    return state_of(found, acl) == before


# --- one order ------------------------------------------------------------------------------
