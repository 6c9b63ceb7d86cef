"""Calls of the kernel by descriptor: open below a directory, change owner and mode, drop rights.

Source: openat2(2), statx(2), fchownat(2), fchmodat2 in chmod(2), capabilities(7), prctl(2).
"""

import ctypes
import errno
import os
import signal
import struct
from collections.abc import Iterable
from typing import NamedTuple

CHUNK_BYTES = 2048  # of a path that is opened at once; the kernel takes less than 4096
MAX_PATH_BYTES = 1 << 18  # 64 times what most programs can open

CAP_CHOWN, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID = 0, 2, 3, 4
EXECUTOR_CAPS = (CAP_CHOWN, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID)

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
_libc.fchownat.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint32,
    ctypes.c_uint32,
    ctypes.c_int,
)
_SYS_OPENAT2, _SYS_FCHMODAT2 = 437, 452  # the same on every architecture since Linux 5.1
_AT_EMPTY_PATH = 0x1000
_STATX_BASIC = 0x7FF
_STATX = struct.Struct("=8xQIIIH2xQ56xqI28xII")  # as far as `Status` needs it
_Statx = ctypes.c_char * 256
_place = [b"/proc/self/fd/"]
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x01, 0x02, 0x04, 0x08
_RESOLVE = _NO_XDEV | _NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH


def _how(flags: int, resolve: int = _RESOLVE) -> bytes:
    return struct.pack("=QQQ", flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0, resolve)


OPEN_ENTRY = _how(os.O_PATH)
OPEN_PARENT = _how(os.O_PATH | os.O_DIRECTORY)
OPEN_LISTING = _how(os.O_RDONLY | os.O_DIRECTORY)
# A project's root may lie on any mount, and is compared with its pin.
OPEN_ROOT = _how(os.O_PATH | os.O_DIRECTORY, _RESOLVE & ~_NO_XDEV)


def open_beneath(directory: int, path: bytes, how: bytes = OPEN_ENTRY) -> int:
    """Open `path` below a directory descriptor: no symbolic link, no `..`, no other mount.

    A final symbolic link opens as the link itself. Raises OSError: EXDEV at a mount.
    """
    if len(path) <= CHUNK_BYTES:
        return _open(directory, path, how)
    if len(path) > MAX_PATH_BYTES:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    between = OPEN_ROOT if how is OPEN_ROOT else OPEN_PARENT
    at, begin = directory, 0
    try:
        while len(path) - begin > CHUNK_BYTES:
            slash = path.rfind(b"/", begin, begin + CHUNK_BYTES)
            if slash < 0:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
            above, at = at, _open(at, path[begin:slash], between)
            if above != directory:
                os.close(above)
            begin = slash + 1
        return _open(at, path[begin:], how)
    finally:
        if at != directory:
            os.close(at)


def _open(directory: int, path: bytes, how: bytes) -> int:
    opened: int = _syscall(_SYS_OPENAT2, directory, path, how, 24)
    if opened < 0:
        raise _error()
    return opened


def change_owner(fd: int, uid: int, gid: int) -> None:
    """Owner and group of what an O_PATH descriptor stands for; -1 leaves one as it is."""
    if _libc.fchownat(fd, b"", uid & 0xFFFFFFFF, gid & 0xFFFFFFFF, _AT_EMPTY_PATH) < 0:
        raise _error()


def change_mode(fd: int, mode: int) -> None:
    """Mode of what an O_PATH descriptor stands for; never of a symbolic link's target."""
    if _syscall(_SYS_FCHMODAT2, fd, b"", mode, _AT_EMPTY_PATH) >= 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.ENOSYS, errno.EPERM):
        raise OSError(code, os.strerror(code))
    # Before Linux 6.6, or behind a filter that does not know the call. By descriptor too: no
    # name is looked up; and no link is followed, for links are not given to this.
    os.chmod(proc_path(fd), mode)


def proc_path(fd: int) -> bytes:
    """A path that stands for an open descriptor, for the calls that know no descriptor."""
    return b"%s%d" % (_place[0], fd)


def stand_in_descriptors() -> None:
    """Make the descriptors the working directory of this process: halves what a path costs."""
    os.chdir(_place[0] or ".")
    _place[0] = b""


def drop_privileges(account: tuple[int, int] | None, keep: Iterable[int]) -> list[int]:
    """Keep only these capabilities, under another account if root; the ones that are left.

    `account`: uid and gid to become, for root only. Raises OSError, and then nothing may go on.
    """
    if os.geteuid() == 0 and (account is None or 0 in account):
        raise OSError(errno.EPERM, "root must become an account that owns nothing")
    header = struct.pack("=II", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    data = ctypes.create_string_buffer(24)
    if _libc.capget(header, data) < 0:
        raise OSError(ctypes.get_errno(), "capabilities cannot be read")
    permitted: int = struct.unpack("=6I", data.raw)[1]
    mask = permitted & sum(1 << cap for cap in keep)
    _libc.prctl(47, 4, 0, 0, 0)  # PR_CAP_AMBIENT_CLEAR_ALL
    for cap in range(64):
        if not mask >> cap & 1:
            _libc.prctl(24, cap, 0, 0, 0)  # PR_CAPBSET_DROP, as far as allowed
    if account is not None and os.geteuid() == 0:
        os.setgroups([])
        _libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS: across the change of account
        os.setresgid(account[1], account[1], account[1])
        os.setresuid(account[0], account[0], account[0])
    data = ctypes.create_string_buffer(struct.pack("=6I", mask, mask, 0, 0, 0, 0))
    if _libc.capset(header, data) < 0:
        raise OSError(ctypes.get_errno(), "capabilities cannot be dropped")
    _libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    _libc.prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: nobody traces it
    return [cap for cap in keep if mask >> cap & 1]


def die_with_parent() -> None:
    """Be killed when the thread that started this process ends; to be called after the drop."""
    _libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


class Status(NamedTuple):
    """What statx(2) says of an open entry, under the names of `os.stat_result`.

    `attributes` are 0 where the file system has none.
    """

    attributes: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_mode: int
    st_ino: int
    st_ctime_ns: int
    st_dev: int


def status(fd: int) -> Status:
    """The status of what a descriptor stands for. Raises OSError."""
    buffer = _Statx()
    if _libc.statx(fd, b"", _AT_EMPTY_PATH, _STATX_BASIC, buffer) < 0:
        raise _error()
    attributes, links, uid, gid, mode, inode, s, ns, major, minor = _STATX.unpack_from(buffer)
    device = os.makedev(major, minor)
    return Status(attributes, links, uid, gid, mode, inode, s * 1_000_000_000 + ns, device)


def _error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))


def reason(error: OSError) -> str:
    """What went wrong, in words."""
    if error.errno == errno.ELOOP:
        return "a symbolic link stands there now"
    if error.errno == errno.ENOSYS:
        return "this needs openat2, which Linux has since 5.6"
    return os.strerror(error.errno or 0)
