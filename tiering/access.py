"""What an account may do with a file below a managed root, as the kernel itself would say.

A daemon that is root opens paths with the rights of whoever asks. What a stub allows is not in its
mode, which hides it, but in its mark; hence the last step, from the file to its content, is decided
here by mode and access control list.
"""

import ctypes
import errno
import os
import platform
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from datamgr.errors import ForbiddenError
from datamgr.identity import Caller
from tiering import kernel, stub

READ, WRITE = 4, 2

# Source: the system call tables of Linux. glibc's wrapper changes all threads of a process.
_SETGROUPS = {"x86_64": 116, "aarch64": 159}
_NOBODY = 65534

# Source: linux/posix_acl.h.
_USER, _GROUP_OBJ, _GROUP = 0x02, 0x04, 0x08
_ACL = "system.posix_acl_access"

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Rights:
    """For whom something is done. `managed`: paths, relative to the root, where the caller acts for
    a project, with rights to all that is there."""

    caller: Caller
    managed: tuple[bytes, ...] = ()

    def manages(self, path: bytes) -> bool:
        """Whether a path lies where the caller acts for the project."""
        return any(m in (b".", path) or path.startswith(m + b"/") for m in self.managed)


@contextmanager
def acting_as(caller: Caller) -> Iterator[None]:
    """A block in which this thread opens files with the rights of an account.

    Raises:
        ForbiddenError: this process may not act for others.
    """
    own = os.geteuid()
    if own != 0:
        if caller.uid != own:
            raise ForbiddenError(f"this daemon acts for account {own} alone; root's acts for all")
        yield
        return
    groups = os.getgroups()
    try:
        _set_groups(sorted(caller.gids))
        _libc.setfsgid(next(iter(caller.gids), _NOBODY))
        # From here on the thread has no capability that has to do with files.
        _libc.setfsuid(caller.uid)
        if _libc.setfsuid(caller.uid) != caller.uid:
            raise ForbiddenError(f"this process cannot act for account {caller.uid}")
        yield
    finally:
        _libc.setfsuid(0)
        _libc.setfsgid(0)
        _set_groups(groups)


def permissions(caller: Caller, status: os.stat_result, mode: int, acl: bytes | None) -> int:
    """Which of READ and WRITE (and 1, execute) an account has.

    Source: acl(5), access check algorithm.
    """
    if caller.uid == status.st_uid:
        return mode >> 6 & 7
    if acl is None:
        return mode >> 3 & 7 if status.st_gid in caller.gids else mode & 7
    mask = mode >> 3 & 7
    granted: int | None = None
    for tag, bits, number in struct.iter_unpack("<HHI", acl[4:]):
        if tag == _USER and number == caller.uid:
            return int(bits) & mask
        is_own = tag == _GROUP_OBJ and status.st_gid in caller.gids
        if is_own or (tag == _GROUP and number in caller.gids):
            granted = (granted or 0) | (int(bits) & mask)
    return mode & 7 if granted is None else granted


def acl_of(descriptor: int) -> bytes | None:
    """The access control list of what is open here, by O_PATH too; None if there is none."""
    try:
        return os.getxattr(f"/proc/self/fd/{descriptor}", _ACL)
    except OSError:
        return None


def open_for(rights: Rights, root: int, path: bytes, flags: int) -> int:
    """Open what is at a path below a directory, for an account that may get there and use it.

    A file is opened with the rights of this process once the account may read or write it.

    Raises:
        OSError: as open(2); EACCES if the account may not.
    """
    if rights.manages(path):
        return kernel.open_beneath(root, path, flags)
    with acting_as(rights.caller):
        if flags & (os.O_PATH | os.O_DIRECTORY):
            return kernel.open_beneath(root, path, flags)
        pinned = kernel.open_beneath(root, path, os.O_PATH | os.O_NOFOLLOW)
    try:
        # By O_PATH nothing is opened yet, so that neither a pipe nor a device does anything.
        place = f"/proc/self/fd/{pinned}"
        status = os.fstat(pinned)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        mode = _mode(place, status)
        if not permissions(rights.caller, status, mode, acl_of(pinned)) & (READ | WRITE):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return os.open(place, flags & ~os.O_NOFOLLOW | os.O_CLOEXEC)
    finally:
        os.close(pinned)


def _mode(place: str, status: os.stat_result) -> int:
    """The permissions of a file, or those that a stub had before it was hidden."""
    if stat.S_IMODE(status.st_mode) == 0:
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            mark = stub.read(descriptor)
        finally:
            os.close(descriptor)
        if mark is not None:
            return mark.mode
    return stat.S_IMODE(status.st_mode)


def _set_groups(gids: list[int]) -> None:
    number = _SETGROUPS.get(platform.machine())
    if number is None:
        raise ForbiddenError(f"no daemon can act for users on {platform.machine()} machines")
    array = (ctypes.c_uint32 * len(gids))(*gids)
    if _libc.syscall(number, len(gids), array) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"groups cannot be set in thread {threading.get_ident()}")
