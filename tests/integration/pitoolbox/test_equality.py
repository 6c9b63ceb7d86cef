"""What an order makes of a random tree is what coreutils and setfacl make of it, entry by entry.

Two equal trees are built; one is given to the privileged process, the other to the tools.
"""

import itertools
import os
import shutil
import stat
import sys
import tempfile
import time
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Asked:
    """What is asked for; the tools take the same."""

    group: str | None
    owner: str | None
    clauses: Clauses
    only: str | None
    override: bool


asked = st.builds(
    Asked,
    group=st.sampled_from([None, "group", "second"]),
    owner=st.sampled_from([None, None, "bob"]),
    clauses=clauses,
    only=st.sampled_from([None, None, "files", "directories"]),
    override=st.booleans(),
)


def inode(root: Path, path: bytes) -> int:
    return os.lstat(os.path.join(os.fsencode(root), path)).st_ino


def by_the_tools(root: Path, team: Team, told: Asked) -> dict[bytes, permissions.Entry]:
    """What coreutils make of the tree, and setfacl of ACLs, but for what the policy skips."""
    before = permissions.snapshot(root)
    left = {path for path in before if is_left(before[path], root, path, team, told)}
    if told.owner:
        permissions.run("chown", "-R", "-h", str(getattr(team, told.owner)), root)
    if told.group:
        permissions.run("chgrp", "-R", "-h", str(getattr(team, told.group)), root)
    bits = tuple((op, what) for op, what in told.clauses if what != "s")
    if bits:
        permissions.run("chmod", "-R", text(bits), root)
    if ("+", "s") in told.clauses:
        permissions.run("find", root, "-type", "d", "-exec", "chmod", "g+s", "{}", "+")
    for path, was in before.items():
        if was.acl is not None and path not in left and bits:
            setfacl(os.path.join(os.fsencode(root), path), was, bits)
    return permissions.snapshot(root) | {path: before[path] for path in left}


def is_left(was: permissions.Entry, root: Path, path: bytes, team: Team, told: Asked) -> bool:
    """Whether it was not asked for, or the policy documents that it is skipped."""
    is_directory = was.kind == stat.S_IFDIR
    if told.only is not None and (told.only == "directories") != is_directory:
        return True
    if was.mode & 0o6000 and not is_directory:
        return True
    if told.override:
        return False
    links = os.lstat(os.path.join(os.fsencode(root), path)).st_nlink
    return was.uid == team.eve or (was.kind == stat.S_IFREG and links > 1)


def text(told: Clauses) -> str:
    return ",".join(f"g{operator}{what}" for operator, what in told)


def setfacl(path: bytes, was: permissions.Entry, told: Clauses) -> None:
    """Set the group's entry to what chmod makes of it; widen the mask by what it was given."""
    acl = was.acl
    assert acl is not None
    setgid = os.lstat(path).st_mode & 0o2000
    os.setxattr(path, permissions.ACCESS, acl)
    letters = tuple((op, what.replace("X", "x") if was.mode & 0o111 else what) for op, what in told)
    own, mask = acls.rights(acl, acls.GROUP_OBJ), acls.rights(acl, acls.MASK)
    assert own is not None
    assert mask is not None
    wanted, given = (by_chmod(was, bits, letters) for bits in (own, own & mask))
    entries = [f"g::{wanted:o}"]
    if given & ~mask:
        for tag, bits, number in acls.entries(acl):
            if tag in (acls.USER, acls.GROUP):
                entries.append(f"{'u' if tag == acls.USER else 'g'}:{number}:{bits & mask:o}")
        entries.append(f"m::{mask | given:o}")
    permissions.run("setfacl", "-n", "-m", ",".join(entries), "--", path)
    assert os.lstat(path).st_mode & 0o2000 == setgid


def by_chmod(like: permissions.Entry, group: int, told: Clauses) -> int:
    """The group rights that chmod makes of these, on an entry of the same kind and mode."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "entry"
        path.mkdir() if like.kind == stat.S_IFDIR else path.touch()
        path.chmod(like.mode & 0o707 | group << 3)
        permissions.run("chmod", text(told), path)
        return path.stat().st_mode >> 3 & 7


@pytest.mark.soak
def test_a_random_tree_ends_as_the_tools_would_leave_it(
    place: Path, privileged: Executor, team: Team, request: pytest.FixtureRequest
) -> None:
    """And what needs no change keeps its ctime; a second order of the same finds all right."""
    full, number = (request.config.getoption(name) for name in ("--full-soak", "--seed"))
    number = time.time_ns() if number is None else number
    print(f"--seed {number}")
    numbers = itertools.count()

    @seed(number)
    @settings(
        max_examples=300 if full else 12,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink] if full else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(plan=st.lists(nodes, min_size=5, max_size=40), told=asked)
    def compare(plan: list[Node], told: Asked) -> None:
        folder = place / f"{next(numbers)}"
        folder.mkdir()
        for name in ("ours", "theirs"):
            build(folder / name, plan, team)
        ours = folder / "ours"
        before, moments = permissions.snapshot(ours), permissions.changed_at(ours)
        assert before == permissions.snapshot(folder / "theirs")
        order = permissions.order(
            ours,
            team,
            uid=getattr(team, told.owner) if told.owner else -1,
            gid=getattr(team, told.group) if told.group else -1,
            clauses=told.clauses,
            files=told.only != "directories",
            directories=told.only != "files",
            override=told.override,
            requester=0 if told.override else team.ada,
        )
        preview = permissions.carry_out(privileged, replace(order, dry_run=True))
        assert permissions.changed_at(ours) == moments
        outcome = permissions.carry_out(privileged, order)
        after = permissions.snapshot(ours)
        assert after == by_the_tools(folder / "theirs", team, told)
        # What was told is what happened, and what was not told was not touched.
        assert outcome.left == []
        # Whoever overrides the rule of hard links changes a file once, by the first of its names.
        assert told.override or outcome == preview
        assert outcome.changed.keys() <= preview.changed.keys()
        changed = {path for path in before if before[path] != after[path]}
        assert {row.inode for row in outcome.rows} == {inode(ours, path) for path in changed}
        for path, row in outcome.changed.items():
            for told_state, entry in ((row.before, before[path]), (row.after, after[path])):
                acl = None if entry.acl is None else entry.acl.hex()
                assert told_state == (entry.uid, entry.gid, entry.mode, acl)
        same, now = before.keys() - changed, permissions.changed_at(ours)
        assert {path: now[path] for path in same} == {path: moments[path] for path in same}
        again = permissions.carry_out(privileged, order)
        assert again.rows == []
        assert again.seen == outcome.seen == len(before)
        undone = permissions.undo(privileged, order, outcome.rows)
        assert undone.reasons == {}
        assert permissions.snapshot(ours) == before
        shutil.rmtree(folder)

    compare()


@pytest.mark.parametrize("levels", [300, 3000], ids=["beyond PATH_MAX", "very deep"])
def test_a_path_of_any_length_is_changed(
    place: Path, privileged: Executor, team: Team, levels: int
) -> None:
    name = b"d" * (200 if levels < 1000 else 3)
    root = place / f"deep-{levels}"
    root.mkdir()
    with trees.chain(root, levels, name):
        permissions.run("chown", "-R", f"{team.ada}:{team.foreign}", root)
        order = permissions.order(root, team, gid=team.group, clauses=[("+", "rX"), ("+", "s")])
        outcome = permissions.carry_out(privileged, order)
        assert outcome.issues == []
        assert len(outcome.rows) == outcome.seen == levels + 2
        printed = permissions.run("find", root, "-printf", "%y %G %m\n")
        expected = {f"d {team.group} 2755", f"f {team.group} 755"}
        assert set(printed.splitlines()) == expected
    root.rmdir()


def test_a_path_that_is_too_long_is_named_and_its_neighbours_are_done(
    place: Path, privileged: Executor, team: Team
) -> None:
    """Nothing reaches 262,144 bytes but who builds a trap."""
    root = place / "longest"
    root.mkdir()
    with trees.chain(root, 1100, b"n" * 250):
        permissions.run("chown", "-R", f"{team.ada}:{team.foreign}", root)
        (root / "beside").touch()
        os.chown(root / "beside", team.ada, team.foreign)
        outcome = permissions.carry_out(privileged, permissions.order(root, team, gid=team.group))
        assert set(outcome.reasons.values()) == {"File name too long"}
        assert (root / "beside").stat().st_gid == team.group
        (root / "beside").unlink()
    root.rmdir()


@pytest.mark.parametrize("listed", [True, False], ids=["in a directory", "selected one by one"])
def test_thousands_of_changes_are_done_within_the_limit_of_open_files(
    place: Path, team: Team, listed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process may have 128 files open, of which it keeps 64 for itself."""
    root = place / f"wide-{listed}"
    root.mkdir()
    trees.make_many_files(root, 3000)
    permissions.run("chown", "-R", f"{team.ada}:{team.foreign}", root)
    paths = [b"."] if listed else [b"f%d" % number for number in range(3000)]
    few = tmp_path / "python"
    few.write_text(f'#!/bin/sh\nulimit -n 128 && exec {sys.executable} "$@"\n')
    few.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(few))
    with permissions.executor([place]) as limited:
        told = permissions.order(root, team, gid=team.group)
        outcome = permissions.carry_out(limited, told, paths)
    assert outcome.issues == []
    assert len(outcome.rows) == 3000 + listed
    groups = permissions.run("find", root, "-mindepth", "1", "-printf", "%G\n")
    assert set(groups.split()) == {str(team.group)}
