"""Meddles with a project while its permissions are changed, in one way at a time.

`python -m tests.meddler ATTACK PLACE UID GID SEED` works until its input ends, puts everything
back, and prints how often it did it. PLACE is as `prepare` makes it.
"""

import ctypes
import os
import random
import select
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests import acls, permissions

TOPS, SUBS, FILES = 4, 4, 10
_libc = ctypes.CDLL(None, use_errno=True)
_RENAME_EXCHANGE, _MS_BIND, _MNT_DETACH = 2, 4096, 2


def prepare(place: Path, member: int, stranger: int, gid: int) -> Path:
    """`project`, which is to be changed, and `outside`, of which nothing may be; what is outside.

    In `outside`: `mirror` has the paths of the project and is the member's, as are the files in
    `own`; `foreign` and `device` are a stranger's and root's, `drop` is where things are moved.
    """
    project, outside = place / "project", place / "outside"
    for base in (project, outside / "mirror"):
        fill(base)
    for name in ("own", "drop"):
        (outside / name).mkdir()
    for number in range(FILES):
        (outside / f"own/v{number}").touch()
    fill(outside / "foreign")
    permissions.run("chown", "-R", f"{member}:{gid}", project, outside)
    permissions.run("chown", "-R", f"{stranger}:{gid}", outside / "foreign")
    permissions.run("chmod", "-R", "ug=rwX,o=", outside)
    # What others may write may be linked by them, and moved if it is a directory.
    permissions.run("chmod", "-R", "a=rwX", outside / "foreign")
    os.setxattr(outside / "own/v0", permissions.ACCESS, acls.packed(6, 0, 0, users={9: 7}, mask=4))
    os.mknod(outside / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.chown(outside / "device", member, gid)
    for path in (outside, outside / "drop"):
        path.chmod(0o777)
    return outside


def fill(base: Path) -> None:
    for top in range(TOPS):
        for sub in range(SUBS):
            (base / f"d{top}/s{sub}").mkdir(parents=True)
            for number in range(FILES):
                (base / f"d{top}/s{sub}/f{number}").touch()


class Meddler:
    """One adversary; `project` and `outside` are as prepared."""

    def __init__(self, place: Path, seed: int) -> None:
        # Below directories that the adversary may not search, so that it starts from within.
        os.chdir(place)
        self.project, self.outside, self.place = "project", "outside", place
        self.chosen = random.Random(seed)

    def nap(self) -> None:
        time.sleep(self.chosen.choice([0, 0, 0.0001, 0.0005, 0.002]))

    def sub(self) -> str:
        return f"d{self.chosen.randrange(TOPS)}/s{self.chosen.randrange(SUBS)}"

    def file(self) -> str:
        return f"{self.sub()}/f{self.chosen.randrange(FILES)}"

    def directory(self) -> str:
        return self.chosen.choice([self.sub(), f"d{self.chosen.randrange(TOPS)}"])

    def swapped_with_a_link(self) -> None:
        """A directory becomes a symbolic link to one outside of the same names."""
        name = self.directory()
        inside, away = f"{self.project}/{name}", f"{self.outside}/drop/away"
        os.rename(inside, away)
        os.symlink(f"{self.place}/outside/mirror/{name}", inside)
        self.nap()
        os.unlink(inside)
        os.rename(away, inside)

    def moved_out(self) -> None:
        """A directory is moved out, a file in it is another while it is out; then it is back."""
        name, file = self.sub(), f"f{self.chosen.randrange(FILES)}"
        inside, out = f"{self.project}/{name}", f"{self.outside}/drop/out"
        victim = f"{self.outside}/own/v{self.chosen.randrange(FILES)}"
        os.rename(inside, out)
        os.rename(f"{out}/{file}", f"{self.outside}/drop/file")
        os.rename(victim, f"{out}/{file}")
        self.nap()
        os.rename(f"{out}/{file}", victim)
        os.rename(f"{self.outside}/drop/file", f"{out}/{file}")
        os.rename(out, inside)

    def moved_in(self) -> None:
        """A stranger's directory is moved in for a moment."""
        stranger, guest = (
            f"{self.outside}/foreign/{self.sub()}",
            f"{self.project}/{self.sub()}/guest",
        )
        os.rename(stranger, guest)
        self.nap()
        os.rename(guest, stranger)

    def hard_link(self) -> None:
        """A file that lies outside has a name in the project for a moment; a stranger's, or not."""
        victim = f"{self.outside}/own/v{self.chosen.randrange(FILES)}"
        if self.chosen.random() < 0.5:
            victim = f"{self.outside}/foreign/{self.file()}"
        name = f"{self.project}/{self.sub()}/link"
        os.link(victim, name)
        self.nap()
        os.unlink(name)

    def exchanged(self) -> None:
        """A directory or file and a stranger's outside, or a link, change places at once."""
        name = self.chosen.choice([self.directory(), self.file()])
        inside, other = f"{self.project}/{name}", f"{self.outside}/foreign/{name}"
        if self.chosen.random() < 0.5:
            other = f"{self.outside}/drop/link"
            os.symlink(f"{self.place}/outside/mirror/{name}", other)
        exchange(inside, other)
        self.nap()
        exchange(inside, other)
        if other.endswith("/link"):
            os.unlink(other)

    def replaced(self) -> None:
        """A name stands for something else: a link, a stranger's file, a FIFO."""
        name = self.file()
        inside, away = f"{self.project}/{name}", f"{self.outside}/drop/file"
        os.rename(inside, away)
        kind = self.chosen.randrange(3)
        stranger = f"{self.outside}/foreign/{name}"
        if kind == 0:
            os.symlink(f"{self.place}/outside/mirror/{name}", inside)
        elif kind == 1:
            os.rename(stranger, inside)
        else:
            os.mkfifo(inside)
        self.nap()
        os.rename(inside, stranger) if kind == 1 else os.unlink(inside)
        os.rename(away, inside)

    def device(self) -> None:
        """A device node or a FIFO stands where a file was; by root."""
        inside, away = f"{self.project}/{self.file()}", f"{self.outside}/drop/file"
        os.rename(inside, away)
        os.rename(f"{self.outside}/device", inside)
        self.nap()
        os.rename(inside, f"{self.outside}/device")
        os.mkfifo(inside)
        self.nap()
        os.rename(away, inside)

    def mounted(self) -> None:
        """A directory outside is mounted over one inside; by root."""
        name = self.directory()
        source, target = (
            os.fsencode(f"{b}/{name}") for b in (f"{self.outside}/mirror", self.project)
        )
        check(_libc.mount(source, target, None, _MS_BIND, None))
        self.nap()
        check(_libc.umount2(target, _MNT_DETACH))


def exchange(one: str, other: str) -> None:
    here = -100  # AT_FDCWD
    paths = os.fsencode(one), os.fsencode(other)
    check(_libc.renameat2(here, paths[0], here, paths[1], _RENAME_EXCHANGE))


def check(answer: int) -> None:
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main(attack: str, place: Path, uid: int, gid: int, seed: int) -> None:
    meddler = Meddler(place, seed)
    act: Callable[[], None] = getattr(meddler, attack)
    if uid != 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    print("ready", flush=True)
    done = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        act()
        done += 1
    print(done, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:6]))
