"""Real accounts and groups of the machine, made for tests and taken away again; needs root."""

import grp
import itertools
import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from datamgr.identity import Caller, Role

_numbers = itertools.count()


@dataclass(frozen=True)
class People:
    """A project's two groups with two members, a group that is not its own, and a stranger."""

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


@contextmanager
def team() -> Iterator[Team]:
    """As `people`, by number."""
    with people() as made:
        yield Team(
            *(made.uid(name) for name in (made.pi, made.member, made.stranger)),
            *(made.gid, made.second_gid, made.other_gid),
        )


@contextmanager
def people() -> Iterator[People]:
    """Names that no other test process has."""
    mark = f"dm{os.getpid()}x{next(_numbers)}"
    made = People(*(f"{mark}{letter}" for letter in "gihpms"))
    groups = (made.group, made.second_group, made.other_group)
    for group in groups:
        run("groupadd", group)
    try:
        for name in (made.pi, made.member, made.stranger):
            run("useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", name)
        for name in (made.pi, made.member):
            run("usermod", "--append", "--groups", f"{made.group},{made.second_group}", name)
        run("usermod", "--append", "--groups", made.other_group, made.pi)
        yield made
    finally:
        for name in (made.pi, made.member, made.stranger):
            subprocess.run(["userdel", name], capture_output=True, check=False)
        for group in groups:
            subprocess.run(["groupdel", group], capture_output=True, check=False)


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)
