"""The unix accounts and groups of one project, by number, for one test module; needs root."""

import grp
import itertools
import os
import pwd
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Team:
    """The numbers of a project's people: ada and bob are its members, eve is not.

    `group` is the project's, `second` another one of it without bob, `foreign` is eve's alone.
    """

    ada: int
    bob: int
    eve: int
    group: int
    second: int
    foreign: int


@contextmanager
def team() -> Iterator[Team]:
    """Accounts and groups of unique names, taken away again whatever happens."""
    mark = f"dmt{os.getpid()}x{next(_numbers)}"
    users = {name: f"{mark}{name}" for name in ("ada", "bob", "eve")}
    groups = {name: f"{mark}{name}" for name in ("group", "second", "foreign")}
    members = {"group": ["ada", "bob"], "second": ["ada"], "foreign": ["eve"]}
    try:
        for group in groups.values():
            _change("groupadd", group)
        for user in users.values():
            _change("useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", user)
        for group, names in members.items():
            _change("gpasswd", "-M", ",".join(users[name] for name in names), groups[group])
        yield Team(
            **{name: pwd.getpwnam(user).pw_uid for name, user in users.items()},
            **{name: grp.getgrnam(group).gr_gid for name, group in groups.items()},
        )
    finally:
        for user in users.values():
            _change("userdel", user, check=False)
        for group in groups.values():
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
