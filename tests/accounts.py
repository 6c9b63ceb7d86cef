"""Real accounts and groups of the machine, made for tests and taken away again; needs root."""

import grp
import itertools
import os
import pwd
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from datamgr.identity import Caller, Role

_numbers = itertools.count()


@dataclass(frozen=True)
class People:
    """A project's people.

    PI and member are in `group`, the PI alone in `second_group`, the stranger in `other_group`.
    """

    group: str
    second_group: str
    other_group: str
    pi: str
    member: str
    stranger: str

    @property
    def gid(self) -> int:
        return grp.getgrnam(self.group).gr_gid

    @property
    def second_gid(self) -> int:
        return grp.getgrnam(self.second_group).gr_gid

    @property
    def other_gid(self) -> int:
        return grp.getgrnam(self.other_group).gr_gid

    def uid(self, name: str) -> int:
        return pwd.getpwnam(name).pw_uid

    def caller(self, name: str, role: Role = Role.USER) -> Caller:
        entry = pwd.getpwnam(name)
        gids = frozenset(os.getgrouplist(name, entry.pw_gid))
        return Caller(name, entry.pw_uid, gids, role)


@dataclass(frozen=True)
class Team:
    """The same by number: ada is the PI, bob a member, eve the stranger."""

    ada: int
    bob: int
    eve: int
    group: int
    second: int
    foreign: int


def team(people: People) -> Team:
    return Team(
        *(people.uid(name) for name in (people.pi, people.member, people.stranger)),
        *(people.gid, people.second_gid, people.other_gid),
    )


@contextmanager
def people() -> Iterator[People]:
    """Names that no other test process has, taken away again whatever happens."""
    mark = f"dm{os.getpid()}x{next(_numbers)}"
    made = People(*(f"{mark}{letter}" for letter in "gihpms"))
    users = (made.pi, made.member, made.stranger)
    members = {
        made.group: [made.pi, made.member],
        made.second_group: [made.pi],
        made.other_group: [made.stranger],
    }
    try:
        for group in members:
            _change("groupadd", group)
        for user in users:
            _change("useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", user)
        for group, names in members.items():
            _change("gpasswd", "-M", ",".join(names), group)
        yield made
    finally:
        for user in users:
            _change("userdel", user, check=False)
        for group in members:
            _change("groupdel", group, check=False)


def _change(*argv: str, check: bool = True) -> None:
    """Run one of the tools that lock the files of accounts, for which another test may wait."""
    for _ in range(50):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if "lock" not in done.stderr:
            break
        time.sleep(0.2)
    if check and done.returncode != 0:
        raise RuntimeError(f"{argv[0]}: {done.stderr}")
