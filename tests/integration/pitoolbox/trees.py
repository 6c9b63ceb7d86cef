"""A project's tree with something of everything, and what stands in a tree."""

import os
import random
import stat
from dataclasses import dataclass
from pathlib import Path

from tests.accounts import People

ACL = "system.posix_acl_access"
DEEPEST = 3000  # bytes of path: a folder below it could not be named in one call (PATH_MAX, 4096)
ODD_NAMES = (b"new\nline", b"quote\"'", b"\xff\xfe", b" ", b"a,b\\c", b"x" * 255, "é".encode())


@dataclass(frozen=True)
class State:
    """What a request can change of an entry."""

    uid: int
    gid: int
    mode: int
    acl: bytes | None


def fill(root: Path, people: People, entries: int, seed: int) -> None:
    """Files and directories of the PI's and the member's, some of the stranger's, links, pipes."""
    chance = random.Random(seed)
    owners = [people.uid(people.pi)] * 6 + [people.uid(people.member)] * 4
    stranger = people.uid(people.stranger)
    directories, made = [os.fsencode(root)], 0
    while made < entries:
        folder = chance.choice(directories[-40:])
        name = b"%06d-" % made + chance.choice(ODD_NAMES)
        path = os.path.join(folder, name[:255])
        draw = chance.random()
        if draw < 0.06:
            os.mkdir(path, 0o755)
            if len(path) < DEEPEST:
                directories.append(path)
        elif draw < 0.09:
            os.symlink(b"/etc/passwd", path)
        elif draw < 0.1:
            os.mkfifo(path)
        else:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        owner = stranger if draw > 0.97 else chance.choice(owners)
        os.chown(path, owner, chance.choice([people.other_gid, people.gid]), follow_symlinks=False)
        if not os.path.islink(path):
            os.chmod(path, chance.choice([0o600, 0o640, 0o644, 0o700, 0o750, 0o755]))
        made += 1


def states(root: Path) -> dict[bytes, State]:
    """The state of every entry, by its path below the root."""
    found, base = {}, os.fsencode(root)
    for folder, directories, files in os.walk(base):
        for path in [folder] + [os.path.join(folder, name) for name in directories + files]:
            status = os.lstat(path)
            acl = None
            if not stat.S_ISLNK(status.st_mode) and ACL in os.listxattr(
                path, follow_symlinks=False
            ):
                acl = os.getxattr(path, ACL, follow_symlinks=False)
            found[os.path.relpath(path, base)] = State(
                status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode), acl
            )
    return found
