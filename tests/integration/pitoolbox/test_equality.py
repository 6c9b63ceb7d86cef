"""What an order makes of a random tree is what coreutils and setfacl make of it, entry by entry.

Two equal trees are built; one is given to the privileged process, the other to the tools.
"""

import errno
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from pitoolbox.executor import Executor
from tests import acls, mounts, permissions, trees
from tests.accounts import Team

pytestmark = [mounts.needs_root, pytest.mark.root]

Clauses = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Node:
    """One entry to make; `where` and `target` pick among what is there already."""

    kind: str
    where: int
    target: int
    name: bytes
    mode: int
    owner: str
    group: str
    acl: tuple[int, int, int, int] | None
    default: tuple[int, int, int, int] | None


rights = st.integers(0, 7)
lists = st.none() | st.tuples(rights, rights, rights, rights)
names = st.one_of(
    st.sampled_from(trees.HOSTILE_NAMES),
    st.binary(min_size=1, max_size=8).filter(lambda n: not set(n) & {0, ord("/")}),
    st.binary(min_size=255, max_size=255).map(
        lambda n: n.replace(b"\0", b"0").replace(b"/", b"\n")
    ),
).filter(lambda name: name not in (b".", b".."))
kinds = ["file", "file", "file", "directory", "directory", "directory", "symlink", "fifo", "socket"]

nodes = st.builds(
    Node,
    kind=st.sampled_from([*kinds, "link"]),
    where=st.integers(0, 1000),
    target=st.integers(0, 1000),
    name=names,
    mode=st.sampled_from([0o644, 0o600, 0o664, 0o755, 0o2755, 0o2770, 0o4755, 0o1777, 0o040, 0])
    | st.integers(0, 0o7777),
    owner=st.sampled_from(["ada", "ada", "ada", "bob", "bob", "eve"]),
    group=st.sampled_from(["group", "second", "foreign", "foreign"]),
    acl=lists,
    default=lists,
)

letters = st.text("rwxX", min_size=1, max_size=3) | st.sampled_from(["u", "o", "g"])
clauses = st.lists(
    st.tuples(st.sampled_from("++-="), letters) | st.just(("+", "s")), max_size=3
).map(tuple)


def build(root: Path, plan: list[Node], team: Team) -> None:
    """The tree of a plan: the same each time."""
    root.mkdir()
    os.chown(root, team.ada, team.foreign)
    directories, files = [os.fsencode(root)], list[bytes]()
    made = list[tuple[Node, bytes]]()
    for node in plan:
        path = os.path.join(directories[node.where % len(directories)], node.name)
        if os.path.lexists(path) or len(path) > 3500:
            continue
        if node.kind == "directory":
            os.mkdir(path)
            directories.append(path)
        elif node.kind == "symlink":
            os.symlink([b"..", b"/etc/passwd", b"nowhere", node.name][node.target % 4], path)
        elif node.kind == "link" and files:
            os.link(files[node.target % len(files)], path)
            continue
        else:
            kind = {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK}.get(node.kind, stat.S_IFREG)
            os.mknod(path, kind | 0o600)
            files += [path] if kind == stat.S_IFREG else []
        made.append((node, path))
    for node, path in made:
        owner: int = getattr(team, node.owner)
        os.chown(path, owner, getattr(team, node.group), follow_symlinks=False)
        if node.kind == "symlink":
            continue
        os.chmod(path, node.mode)
        grant(path, permissions.ACCESS, node.acl, node.mode, team)
        if node.kind == "directory":
            grant(path, permissions.DEFAULT, node.default, node.mode, team)
        os.chmod(path, os.lstat(path).st_mode & 0o1777 | node.mode & 0o6000)


def grant(
    path: bytes, name: str, told: tuple[int, int, int, int] | None, mode: int, team: Team
) -> None:
    if told is None:
        return
    user, group, named, mask = told
    acl = acls.packed(
        mode >> 6 & 7,
        group,
        mode & 7,
        users={team.eve: user},
        groups={team.second: named},
        mask=mask,
    )
    os.setxattr(path, name, acl)


def may_be_changed(told: Node_or_path, path: bytes, team: Team, override: bool) -> bool: ...


def by_the_tools(root: Path, team: Team, told: "Asked") -> None:
    """The same by find, chgrp, chown, chmod and setfacl, without what the policy skips."""
    ours = list[bytes]()
    for _, path in permissions.walk(root):
        found = os.lstat(path)
        mode = found.st_mode
        is_directory = stat.S_ISDIR(mode)
        set_id = mode & 0o6000 and not is_directory
        linked = stat.S_ISREG(mode) and found.st_nlink > 1
        foreign = found.st_uid not in (team.ada, team.bob)
        asked_for = told.only is None or (told.only == "directories") == is_directory
        if asked_for and not set_id and not linked and not foreign:
            ours.append(path)
    if told.uid >= 0:
        each(ours, "chown", "-h", str(told.uid))
    if told.gid >= 0:
        each(ours, "chgrp", "-h", str(told.gid))
    told_letters = tuple((op, what) for op, what in told.clauses if what != "s")
    for path in ours if told.clauses else []:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            continue
        acl = permissions.xattr(path, permissions.ACCESS)
        if acl is None:
            chmod(path, told.clauses if stat.S_ISDIR(mode) else told_letters)
        else:
            setfacl(path, acl, told_letters)
            if stat.S_ISDIR(mode) and ("+", "s") in told.clauses:
                permissions.run("chmod", "g+s", path)


def each(paths: list[bytes], *argv: str) -> None:
    if paths:
        permissions.run(*argv, "--", *paths)


def chmod(path: bytes, told: Clauses) -> None:
    if told:
        text = ",".join(f"g{operator}{what}" for operator, what in told)
        permissions.run("chmod", text, "--", path)


def setfacl(path: bytes, acl: bytes, told: Clauses) -> None:
    """Set the group's entry to what chmod makes of it; widen the mask by what it was given."""
    mode = os.lstat(path).st_mode
    letters = tuple((op, what.replace("X", "x") if mode & 0o111 else what) for op, what in told)
    own, mask = acls.rights(acl, acls.GROUP_OBJ), acls.rights(acl, acls.MASK)
    assert own is not None
    assert mask is not None
    wanted, given = (by_chmod(path, mode, bits, letters) for bits in (own, own & mask))
    entries = [f"g::{wanted:o}"]
    if given & ~mask:
        for tag, bits, number in acls.entries(acl):
            if tag in (acls.USER, acls.GROUP):
                entries.append(f"{'u' if tag == acls.USER else 'g'}:{number}:{bits & mask:o}")
        entries.append(f"m::{mask | given:o}")
    permissions.run("setfacl", "-n", "-m", ",".join(entries), "--", path)


def by_chmod(beside: bytes, mode: int, group: int, told: Clauses) -> int:
    """Group rights that chmod makes of these, on an entry of the same kind and mode."""
    path = beside[: beside.rindex(b"/")] + b"/\x01scratch"
    os.mkdir(path) if stat.S_ISDIR(mode) else os.mknod(path)
    try:
        if xattr := permissions.xattr(path, permissions.ACCESS):
            assert xattr  # the directory has a default ACL
            os.removexattr(path, permissions.ACCESS)
        os.chmod(path, mode & 0o707 | group << 3)
        chmod(path, told)
        return os.lstat(path).st_mode >> 3 & 7
    finally:
        os.rmdir(path) if stat.S_ISDIR(mode) else os.unlink(path)
