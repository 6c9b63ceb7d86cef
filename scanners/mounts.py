"""What is mounted where, as this process sees it."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from datamgr.errors import UnavailableError
from scanners.paths import is_below


def names_by_parent() -> dict[bytes, set[bytes]]:
    """The last names of all mount points, by the directory they are in.

    Source: proc_pid_mountinfo(5).
    """
    found: dict[bytes, set[bytes]] = {}
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        parent, name = os.path.split(unescape(line.split(b" ")[4]))
        found.setdefault(parent, set()).add(name)
    return found


def is_mounted(name: bytes, parent: int) -> bool:
    """Whether something is mounted on an entry of an open directory.

    A mount point of the table may be hidden by a later mount on a directory above it.
    """
    try:
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError:
        return False
    try:
        return _mount_id(descriptor) != _mount_id(parent)
    finally:
        os.close(descriptor)


@contextmanager
def held(roots: Iterable[bytes]) -> Iterator[None]:
    """Keep directories open for the block, so that an ordinary umount is refused.

    Raises:
        UnavailableError: one cannot be opened, or is another one at the end.
    """
    roots = list(roots)
    with ExitStack() as stack:
        before = [_identity(stack, root) for root in roots]
        yield
        # The open ones keep their numbers from being given to others.
        if [_identity(stack, root) for root in roots] != before:
            raise UnavailableError("a path to scan was unmounted or replaced meanwhile; scan again")


def _identity(stack: ExitStack, path: bytes) -> tuple[int, int, bytes]:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise UnavailableError(f"{os.fsdecode(path)} cannot be read: {error.strerror}") from error
    stack.callback(os.close, descriptor)
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino, _mount_id(descriptor)


def atime_policy(roots: Sequence[bytes]) -> str:
    """How the file systems of the roots keep access times: their mount options of that name.

    Source: proc_pid_mountinfo(5), mount(8).
    """
    policies = set()
    table = [line.split(b" ") for line in Path("/proc/self/mountinfo").read_bytes().splitlines()]
    for root in roots:
        above = [m for m in table if is_below(root, unescape(m[4]))]
        nearest = max(above, key=lambda m: len(m[4]), default=None)
        options = nearest[5].decode().split(",") if nearest else []
        policies.add(next((o for o in options if o in ("noatime", "relatime")), "strictatime"))
    return "+".join(sorted(policies))


def unescape(field: bytes) -> bytes:
    """A path of mountinfo, in which blanks, tabs, newlines and backslashes are octal."""
    for code in (b"\\040", b"\\011", b"\\012", b"\\134"):
        field = field.replace(code, bytes([int(code[1:], 8)]))
    return field


def _mount_id(descriptor: int) -> bytes:
    """Source: proc_pid_fdinfo(5)."""
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_bytes().splitlines()
    return next(line for line in lines if line.startswith(b"mnt_id:"))
