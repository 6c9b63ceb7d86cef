"""Accounts of tests, as the kernel knows them: by number, in processes of their own."""

import os
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

from datamgr.identity import Caller, Role

# Prints those of the directories on its input whose listing `ls` gives as a whole.
_LIST = """
while IFS= read -r -d '' path; do
    ls -lA -- "$path" >/dev/null 2>&1 && printf '%s\\0' "$path"
done
exit 0
"""


def person(name: str, uid: int, *gids: int, role: Role = Role.USER) -> Caller:
    return Caller(name, uid, frozenset(gids), role)


def listable(caller: Caller, directories: Iterable[bytes]) -> set[bytes]:
    """Those that the kernel lets this account list; `ls` is asked, as that account."""
    gids = sorted(caller.gids) or [65_534]
    done = subprocess.run(
        ["/bin/bash", "-c", _LIST],
        input=b"".join(path + b"\0" for path in directories),
        stdout=subprocess.PIPE,
        user=caller.uid,
        group=gids[0],
        extra_groups=gids,
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        check=True,
        timeout=60,
    )
    return set(done.stdout.split(b"\0")[:-1])


def make(path: Path, mode: int, uid: int = 0, gid: int = 0) -> Path:
    """A directory with a file in it, for what is empty seems to be listed without being seen."""
    path.mkdir()
    (path / f"file-in-{path.name}").write_bytes(b"x")
    os.chown(path, uid, gid)
    path.chmod(mode)
    return path


def grant(path: Path, uid: int, rights: int) -> None:
    """Give one account rights by an access control list. Source: acl(5), posix_acl_xattr.h."""
    user_obj, user, group_obj, mask, other = 1, 2, 4, 16, 32
    mode, nobody = path.stat().st_mode, 2**32 - 1
    entries = [
        (user_obj, mode >> 6 & 7, nobody),
        (user, rights, uid),
        (group_obj, mode >> 3 & 7, nobody),
        (mask, 7, nobody),
        (other, mode & 7, nobody),
    ]
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(path, "system.posix_acl_access", packed)
