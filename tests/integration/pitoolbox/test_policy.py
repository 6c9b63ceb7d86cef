"""What the privileged process leaves alone, what it refuses, and what it cannot do itself."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from datamgr.errors import InvalidError, UnavailableError
from pitoolbox.executor import Answer, Executor, Issue, Report, Row
from pitoolbox.privileged import states
from pitoolbox.privileged.errors import SkippedError
from tests import acls, mounts, permissions
from tests.accounts import Team

pytestmark = [mounts.needs_root, pytest.mark.root]


@pytest.fixture
def root(place: Path, team: Team) -> Iterator[Path]:
    """A project of ada with a directory and a file."""
    made = place / f"project-{time.monotonic_ns()}"
    (made / "data").mkdir(parents=True)
    (made / "data/file").write_bytes(b"x")
    permissions.run("chown", "-R", f"{team.ada}:{team.foreign}", made)
    yield made
    subprocess.run(["chattr", "-R", "-ia", made], capture_output=True, check=False)


def own(path: Path, team: Team, uid: int | None = None) -> Path:
    os.chown(path, team.ada if uid is None else uid, team.foreign, follow_symlinks=False)
    return path


Make = Callable[[Path, Team], None]


def a_hard_link(path: Path, team: Team) -> None:
    path.touch()
    own(path, team)
    os.link(path, path.parent.parent / f"outside-{time.monotonic_ns()}")


def a_setuid_program(path: Path, team: Team) -> None:
    path.touch()
    own(path, team).chmod(0o4755)


def a_setgid_program(path: Path, team: Team) -> None:
    path.touch()
    own(path, team).chmod(0o2745)


def a_setuid_fifo(path: Path, team: Team) -> None:
    os.mkfifo(path)
    own(path, team).chmod(0o4600)


def a_character_device(path: Path, team: Team) -> None:
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    own(path, team)


def a_block_device(path: Path, team: Team) -> None:
    os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(7, 200))
    own(path, team)


def a_file_of_a_stranger(path: Path, team: Team) -> None:
    path.touch()
    own(path, team, team.eve)


def a_directory_of_root(path: Path, team: Team) -> None:
    path.mkdir()
    own(path, team, 0)


def a_link_of_a_stranger(path: Path, team: Team) -> None:
    path.symlink_to("/etc/passwd")
    own(path, team, team.eve)


def an_account_that_is_gone(path: Path, team: Team) -> None:
    path.touch()
    own(path, team, 59_999)


def an_immutable_file(path: Path, team: Team) -> None:
    path.touch()
    own(path, team)
    permissions.run("chattr", "+i", path)


def an_append_only_file(path: Path, team: Team) -> None:
    path.touch()
    own(path, team)
    permissions.run("chattr", "+a", path)


def an_immutable_directory(path: Path, team: Team) -> None:
    path.mkdir()
    own(path, team)
    permissions.run("chattr", "+i", path)


def file_capabilities(path: Path, team: Team) -> None:
    path.touch()
    own(path, team)
    permissions.run("setcap", "cap_net_raw=ep", path)


SKIPPED: list[tuple[Make, str, bool]] = [  # how, the reason, whether staff may override it
    (a_hard_link, "it has hard links, which may lie outside of the project", True),
    (a_setuid_program, "it is a set-id program", False),
    (a_setgid_program, "it is a set-id program", False),
    (a_setuid_fifo, "it is a set-id program", False),
    (a_character_device, "it is a device node", False),
    (a_block_device, "it is a device node", False),
    (a_file_of_a_stranger, "its owner does not belong to the project", True),
    (a_directory_of_root, "its owner does not belong to the project", True),
    (a_link_of_a_stranger, "its owner does not belong to the project", True),
    (an_account_that_is_gone, "its owner does not belong to the project", True),
    (an_immutable_file, "it is immutable (chattr +i)", False),
    (an_append_only_file, "it is append-only (chattr +a)", False),
    (an_immutable_directory, "it is immutable (chattr +i)", False),
    (file_capabilities, "it has file capabilities, which a change would take away", False),
]


@pytest.mark.parametrize(
    ("make", "reason", "staff_may"), SKIPPED, ids=lambda v: getattr(v, "__name__", "")
)
@pytest.mark.parametrize("change", ["chgrp", "chmod", "chown"])
def test_what_is_skipped_is_named_and_untouched(
    root: Path,
    privileged: Executor,
    team: Team,
    make: Make,
    reason: str,
    staff_may: bool,
    change: str,
) -> None:
    odd = root / "odd"
    make(odd, team)
    before, moment = permissions.entry(odd), os.lstat(odd).st_ctime_ns
    asked: dict[str, Any] = {
        "chgrp": {"gid": team.group},
        "chmod": {"clauses": [("+", "wX"), ("-", "r")]},
        "chown": {"uid": team.bob},
    }[change]
    if odd.is_symlink() and change == "chmod":
        return
    told = permissions.order(root, team, **asked)
    outcome = permissions.carry_out(privileged, told)
    assert outcome.reasons == {b"odd": reason}
    assert (permissions.entry(odd), os.lstat(odd).st_ctime_ns) == (before, moment)
    assert b"data/file" in outcome.changed
    # Staff may override the rules of ownership and of hard links, and no other.
    staff = permissions.carry_out(privileged, replace(told, override=True, requester=0))
    assert (b"odd" in staff.changed) == staff_may
    assert (permissions.entry(odd) == before) != staff_may


@pytest.mark.parametrize("kind", ["another file system", "a bind mount", "a bind mount of a file"])
@pytest.mark.parametrize("right", [True, False], ids=["right already", "to be changed"])
def test_nothing_is_changed_at_or_below_a_mount(
    root: Path, privileged: Executor, team: Team, tmp_path: Path, kind: str, right: bool
) -> None:
    outside = root.with_name(f"{root.name}-outside")
    (outside / "deep").mkdir(parents=True)
    (outside / "deep/file").touch()
    group = team.group if right else team.foreign
    permissions.run("chown", "-R", f"{team.ada}:{group}", outside)
    (root / "mount").mkdir()
    own(root / "mount", team)
    source, place = outside, root / "mount"
    if kind == "a bind mount of a file":
        source, place = outside / "deep/file", root / "data/file"
    arguments = ["--bind", source] if "bind" in kind else ["-t", "tmpfs", "none"]
    with mounts.mounted(place, *arguments):
        for path in (place / "deep", place / "deep/file") if kind == "another file system" else ():
            path.mkdir() if path.name == "deep" else path.touch()
            own(path, team)
        before = permissions.snapshot(place), permissions.changed_at(place)
        outcome = permissions.carry_out(privileged, permissions.order(root, team, gid=team.group))
        assert (permissions.snapshot(place), permissions.changed_at(place)) == before
        relative = os.fsencode(place.relative_to(root))
        named = {} if right and place.name == "file" else {relative: "something is mounted there"}
        assert outcome.reasons == named
        selected = permissions.carry_out(
            privileged, permissions.order(root, team, gid=team.group), [relative, relative + b"/x"]
        )
        assert set(selected.reasons.values()) == {"something is mounted there"}


def test_an_nfs_4_acl_keeps_its_file_from_changes_of_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file system here has one: an attribute of another name is taken for it."""
    path = tmp_path / "file"
    path.touch()
    os.setxattr(path, "user.nfs4_acl", b"x")
    monkeypatch.setattr(states, "_FOREIGN_ACLS", {"user.nfs4_acl"})
    fd = os.open(path, os.O_PATH)
    try:
        with pytest.raises(SkippedError, match="NFSv4 ACL"):
            states.read_acl(fd, path.stat().st_mode, for_mode=True)
        assert states.read_acl(fd, path.stat().st_mode, for_mode=False) is None
    finally:
        os.close(fd)


def test_a_default_acl_stays(root: Path, privileged: Executor, team: Team) -> None:
    default = acls.packed(7, 5, 0, users={team.eve: 7}, mask=7)
    os.setxattr(root / "data", permissions.DEFAULT, default)
    told = permissions.order(root, team, gid=team.group, clauses=[("=", ""), ("+", "s")])
    outcome = permissions.carry_out(privileged, told)
    assert b"data" in outcome.changed
    assert permissions.entry(root / "data").default == default


# --- what is refused ------------------------------------------------------------------------

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("root of all", {"root": b"/"}, "'/' is no path of a project"),
    ("relative", {"root": b"etc"}, "no path of a project"),
    ("nothing", {"root": b""}, "no path of a project"),
    ("trailing slash", {"root": b"/etc/"}, "no path of a project"),
    ("two slashes", {"root": b"//etc"}, "no path of a project"),
    ("upwards", {"root": b"{place}/../etc"}, "no path of a project"),
    ("zero byte", {"root": b"{place}/a\0b"}, "no path of a project"),
    ("elsewhere", {"root": b"/etc"}, "below none of the directories in pitoolbox.roots"),
    ("a prefix", {"root": b"{place}2/x"}, "below none of the directories in pitoolbox.roots"),
    ("roots itself", {"root": b"{place}"}, "below none of the directories in pitoolbox.roots"),
    ("missing", {"root": b"{place}/missing"}, "cannot be opened: No such file or directory"),
    ("by a link", {"root": b"{place}/link"}, "cannot be opened: "),
    ("below a link", {"root": b"{place}/link/data"}, "a symbolic link stands there now"),
    ("another inode", {"inode": 1}, "is not the directory that was registered: it was replaced"),
    ("another device", {"device": 1}, "is not the directory that was registered"),
    ("group of nobody", {"gid": 3_999_999_999, "groups": [3_999_999_999]}, "is in no group of"),
    ("group not of it", {"gid": "foreign"}, "is none of the project"),
    ("group of the system", {"gid": 4, "groups": [4, "group"]}, "group adm is one of the system's"),
    ("requester of the system", {"requester": 1}, "is one of the system's"),
    ("requester of nobody", {"requester": 3_999_999_999}, "there is no account with the number"),
    ("requester not in it", {"requester": "eve"}, "is in no group of the project"),
    ("requester not in group", {"gid": "foreign", "groups": ["group", "foreign"]}, "who asked"),
    ("owner of nobody", {"uid": 3_999_999_999}, "there is no account with the number 3999999999"),
    ("owner of the system", {"uid": 0}, "the account root is one of the system's"),
    ("owner not in it", {"uid": "eve"}, "does not belong to the project"),
    ("override", {"override": True}, "only staff may override the rules of ownership"),
    ("letters", {"clauses": [("+", "t")]}, "the mode is none of group level"),
    ("operator", {"clauses": [("u+", "r")]}, "the mode is none of group level"),
    ("no letters", {"clauses": [("+", None)]}, "the mode is none of group level"),
    ("a number", {"clauses": [("+", 7)]}, "the mode is none of group level"),
    ("one clause", {"clauses": [("+",)]}, "a malformed order"),
    ("negative", {"uid": -2}, "is no number between"),
    ("too high", {"gid": 2**32 - 1}, "is no number between"),
    ("a fraction", {"gid": 1.5}, "is no number between"),
    ("true", {"uid": True}, "is no number between"),
    ("a word", {"requester": "root"}, "is no number between"),
    ("depth", {"max_depth": -1}, "is no number between"),
    ("groups", {"groups": 5}, "is no list"),
]


@pytest.mark.parametrize(
    ("told", "sentence"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED]
)
def test_a_false_order_is_refused_by_one_sentence(
    root: Path, privileged: Executor, team: Team, told: dict[str, Any], sentence: str
) -> None:
    place = os.fsencode(root.parent)
    with suppress(FileExistsError):
        (root.parent / "link").symlink_to(root)
    changes = {}
    for key, value in told.items():
        if isinstance(value, bytes):
            changes[key] = value.replace(b"{place}", place)
        elif isinstance(value, list):
            changes[key] = [getattr(team, v) if v in ("group", "foreign") else v for v in value]
        else:
            changes[key] = getattr(team, value, value) if isinstance(value, str) else value
    before = permissions.snapshot(root)
    files = open_files(privileged)
    with pytest.raises(InvalidError, match=re.escape(sentence)) as refusal:
        privileged.begin(permissions.order(root, team, **({"gid": team.group} | changes)))
    assert "\n" not in str(refusal.value)
    # There is no order now, and so nothing to work on.
    with pytest.raises(InvalidError, match="there is no order"):
        privileged.entries([b"."], lambda _: "go")
    assert permissions.snapshot(root) == before
    assert open_files(privileged) <= files


def open_files(of: Executor) -> int:
    return len(os.listdir(f"/proc/{pid(of)}/fd"))


def pid(of: Executor) -> int:
    return of._process.pid


def test_a_root_that_was_replaced_is_refused(root: Path, privileged: Executor, team: Team) -> None:
    told = permissions.order(root, team, gid=team.group)
    root.rename(root.with_name(f"{root.name}-away"))
    (root / "data").mkdir(parents=True)
    with pytest.raises(InvalidError, match="it was replaced"):
        privileged.begin(told)


def test_a_root_that_is_replaced_during_an_order_is_not_followed(
    root: Path, privileged: Executor, team: Team
) -> None:
    """What was pinned goes on being meant, wherever it is now."""
    told = permissions.order(root, team, gid=team.group)
    privileged.begin(told)
    away = root.with_name(f"{root.name}-away")
    root.rename(away)
    root.symlink_to("/etc")
    outcome = permissions.Outcome()
    privileged.entries([b"passwd", b"data"], lambda r: outcome.rows.extend(r.rows) or "go")
    assert list(outcome.changed) == [b"data"]
    assert Path("/etc/passwd").stat().st_gid == 0
    assert (away / "data").stat().st_gid == team.group


BAD_PATHS = [b"", b"/", b"/etc/passwd", b"..", b"data/..", b"../x", b"data//file", b"data/",
             b"./data", b"data/./file", b"a\0b"]  # fmt: skip


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_path_that_is_not_plain_is_refused_and_nothing_of_its_message_is_done(
    root: Path, privileged: Executor, team: Team, path: bytes
) -> None:
    before = permissions.snapshot(root)
    told = permissions.order(root, team, gid=team.group)
    with pytest.raises(InvalidError, match="is no path below the project"):
        permissions.carry_out(privileged, told, [b"data", path])
    assert permissions.snapshot(root) == before


def test_no_symbolic_link_is_followed_on_the_way_to_a_path(
    root: Path, privileged: Executor, team: Team
) -> None:
    (root / "etc").symlink_to("/etc")
    own(root / "etc", team)
    before = permissions.entry(Path("/etc/passwd"))
    told = permissions.order(root, team, gid=team.group, recursive=False)
    outcome = permissions.carry_out(
        privileged, told, [b"etc/passwd", b"etc", b"gone", b"data/file/x"]
    )
    assert outcome.reasons == {
        b"etc/passwd": "a symbolic link stands there now",
        b"data/file/x": "Not a directory",
    }
    assert outcome.vanished == 1
    assert list(outcome.changed) == [b"etc"]
    assert permissions.entry(Path("/etc/passwd")) == before


# --- what comes back in an undo -------------------------------------------------------------

SIDES = ("before", "after")
FORGED: list[tuple[str, dict[str, tuple[Any, ...]], str]] = [
    ("system account", {"before": (0, "g", 0o644, None)}, "its former owner is a system account"),
    ("stranger", {"before": ("eve", "g", 0o644, None)}, "its former owner does not belong"),
    ("system group", {"before": ("ada", 0, 0o644, None)}, "its former group is a system group"),
    ("another owner", dict.fromkeys(SIDES, ("bob", "g", 0o644, None)), "it was changed since"),
    ("another mode", dict.fromkeys(SIDES, ("ada", "g", 0o640, None)), "it was changed since"),
    ("another acl", dict.fromkeys(SIDES, ("ada", "g", 0o644, "0200")), "it was changed since"),
    ("an acl", {"before": ("ada", "g", 0o644, "02000000")}, "its ACL was changed since"),
]


@pytest.mark.parametrize("written_down", [True, False])
@pytest.mark.parametrize(("sides", "reason"), [c[1:] for c in FORGED], ids=[c[0] for c in FORGED])
def test_a_forged_row_is_not_undone(
    root: Path, privileged: Executor, team: Team, sides: Any, reason: str, written_down: bool
) -> None:
    file = root / "data/file"
    before = permissions.entry(file)
    row = replace_row(file, team, **sides)
    privileged.begin(permissions.order(root, team))
    outcome = permissions.Outcome()
    privileged.restore(
        [row],
        "before",
        lambda r: outcome.issues.extend(r.issues) or "go",
        written_down=written_down,
    )
    assert [issue.reason.startswith(reason) for issue in outcome.issues] == [True]
    assert permissions.entry(file) == before


def replace_row(file: Path, team: Team, **sides: tuple[Any, ...]) -> Row:
    found = file.stat()
    state = (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), None)
    told = {"before": state, "after": state}
    for side, (whose, gid, mode, acl) in sides.items():
        uid = getattr(team, whose) if isinstance(whose, str) else whose
        told[side] = (uid, found.st_gid if gid == "g" else gid, mode, acl)
    return Row(b"data/file", "f", found.st_dev, found.st_ino, told["before"], told["after"])


def test_an_undo_gives_back_group_bits_only(root: Path, privileged: Executor, team: Team) -> None:
    """Whatever a row says of set-id bits and of the rights of the owner and of others."""
    file = root / "data/file"
    file.chmod(0o640)
    row = replace_row(
        file, team, before=("ada", "g", 0o6777, None), after=("ada", "g", 0o640, None)
    )
    outcome = permissions.undo(privileged, permissions.order(root, team), [row])
    assert outcome.issues == []
    assert stat.S_IMODE(file.stat().st_mode) == 0o670


def test_a_row_of_another_file_is_not_undone(root: Path, privileged: Executor, team: Team) -> None:
    row = replace_row(root / "data/file", team, before=("ada", "g", 0o664, None))
    (root / "data/file").rename(root / "data/moved")
    (root / "data/file").touch()
    own(root / "data/file", team)
    outcome = permissions.undo(privileged, permissions.order(root, team), [row])
    assert outcome.reasons == {b"data/file": "something else is at this path now"}


def test_a_preview_never_writes_even_of_rows_that_are_being_applied(
    root: Path, privileged: Executor, team: Team
) -> None:
    before = permissions.snapshot(root)
    row = replace_row(root / "data/file", team, before=("bob", "g", 0o664, None))
    privileged.begin(permissions.order(root, team, dry_run=True))
    for written_down in (True, False):
        privileged.restore([row], "before", lambda _: "go", written_down=written_down)
    assert permissions.snapshot(root) == before


@pytest.mark.parametrize("acl_done", [True, False])
def test_who_was_killed_in_the_middle_of_an_entry_is_resumed(
    root: Path, privileged: Executor, team: Team, acl_done: bool
) -> None:
    """Between the ACL and the mode the entry is in neither state, but each bit is in one."""
    data = root / "data"
    data.chmod(0o700)
    acl = acls.packed(7, 0, 0, users={team.eve: 1}, mask=1)
    os.setxattr(data, permissions.ACCESS, acl)
    told = permissions.order(
        root, team, gid=team.group, clauses=[("+", "rX"), ("+", "s")], recursive=False
    )
    rows = permissions.carry_out(privileged, replace(told, dry_run=True), [b"data"]).rows
    os.chown(data, -1, team.group)
    if acl_done:
        wanted = rows[0].after[3]
        assert wanted is not None
        os.setxattr(data, permissions.ACCESS, bytes.fromhex(wanted))
        assert stat.S_IMODE(data.stat().st_mode) == 0o750
    privileged.begin(told)
    issues: list[Issue] = []
    privileged.restore(rows, "after", lambda r: issues.extend(r.issues) or "go", written_down=True)
    assert issues == []
    after = permissions.entry(data)
    assert (after.uid, after.gid, after.mode, after.acl and after.acl.hex()) == rows[0].after
    assert after.mode == 0o2750


# --- stopping, and what goes wrong ----------------------------------------------------------


def test_told_to_stop_it_changes_nothing_and_takes_the_next_order(
    root: Path, privileged: Executor, team: Team
) -> None:
    before = permissions.snapshot(root)
    told = permissions.order(root, team, gid=team.group)
    privileged.begin(told)
    assert not privileged.entries([b".", b"data"], lambda _: "stop")
    assert permissions.snapshot(root) == before
    assert len(permissions.carry_out(privileged, told).rows) == 3


def test_a_report_that_cannot_be_written_down_ends_the_work_unchanged(
    root: Path, privileged: Executor, team: Team
) -> None:
    before = permissions.snapshot(root)
    told = permissions.order(root, team, gid=team.group)

    def fail(_: object) -> Answer:
        raise ConnectionError("the database is gone")

    files = open_files(privileged)
    privileged.begin(told)
    with pytest.raises(ConnectionError):
        privileged.entries([b".", b"data"], fail)
    assert permissions.snapshot(root) == before
    assert open_files(privileged) <= files + 1  # the root of this order
    assert len(permissions.carry_out(privileged, told).rows) == 3


def test_an_entry_that_changes_between_the_report_and_the_change_is_left_alone(
    root: Path, privileged: Executor, team: Team
) -> None:
    def meddle(report: Report) -> Answer:
        if report.rows:
            (root / "data/file").chmod(0o600)
        return "go"

    told = permissions.order(root, team, gid=team.group, recursive=False)
    outcome = permissions.carry_out(privileged, told, [b"data/file", b"data"], answer=meddle)
    assert outcome.left == [
        [0, "skipped", "it was changed by somebody else in the same moment", False]
    ]
    assert (root / "data/file").stat().st_gid == team.foreign
    assert (root / "data").stat().st_gid == team.group


def test_two_names_of_one_file_in_a_batch_are_one_change(
    root: Path, privileged: Executor, team: Team
) -> None:
    os.link(root / "data/file", root / "data/again")
    told = permissions.order(root, team, gid=team.group, override=True, requester=0)
    outcome = permissions.carry_out(privileged, told)
    assert outcome.left == []
    assert (root / "data/again").stat().st_gid == team.group


def test_files_and_directories_alone_and_down_to_a_depth(
    root: Path, privileged: Executor, team: Team
) -> None:
    told = permissions.order(root, team, gid=team.group, dry_run=True)
    asked: list[tuple[dict[str, Any], set[bytes]]] = [
        ({}, {b".", b"data", b"data/file"}),
        ({"directories": False}, {b"data/file"}),
        ({"files": False}, {b".", b"data"}),
        ({"max_depth": 0}, {b"."}),
        ({"max_depth": 1}, {b".", b"data"}),
        ({"recursive": False}, {b"."}),
    ]
    for changes, paths in asked:
        outcome = permissions.carry_out(privileged, replace(told, **changes))
        assert set(outcome.changed) == paths


# --- garbage --------------------------------------------------------------------------------


START = "import os; from pitoolbox.privileged import __main__"


class Raw:
    """The process itself, for lines that no client would write."""

    def __init__(self, place: Path, before: str = "pass") -> None:
        """`before`: what is done first in the process, as Python."""
        policy = {"roots": [str(place)], "min_uid": 1000, "min_gid": 1000}
        policy |= {"staff_users": [], "staff_groups": [], "account": [65534, 65534]}
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"{START};{before};__main__.main()", json.dumps(policy)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.to_it, self.from_it = self.process.stdin, self.process.stdout
        self.ready = json.loads(self.from_it.readline())

    def say(self, line: bytes) -> Any:
        self.to_it.write(line + b"\n")
        self.to_it.flush()
        return json.loads(self.from_it.readline())

    def tell(self, message: object) -> Any:
        return self.say(json.dumps(message).encode())

    def end(self) -> bytes:
        """What it wrote to stderr, once its input has ended."""
        return self.process.communicate()[1]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
told_paths = st.sampled_from([".", "data", "data/file", "..", "/", "", "x", None, 5, ["data"]])
numbers = st.integers(-2, 2**33) | anything


@st.composite
def messages(draw: st.DrawFn, order: dict[str, Any]) -> Any:
    """A message with something wrong in it, or nothing but wrong."""
    kind = draw(st.sampled_from(["order", "entries", "walk", "restore", "anything"]))
    if kind == "order":
        return {"order": order | draw(st.dictionaries(st.sampled_from(list(order)), anything))}
    if kind == "entries":
        return {"entries": draw(st.lists(told_paths, max_size=3) | anything)}
    if kind == "walk":
        directory = st.tuples(told_paths, numbers, numbers, numbers) | anything
        return {"walk": draw(st.lists(directory, max_size=3) | anything)}
    if kind == "restore":
        state = (
            st.tuples(numbers, numbers, numbers, st.sampled_from([None, "02", "zz", 3])) | anything
        )
        row = st.tuples(told_paths, st.just("f"), numbers, numbers, state, state) | anything
        message = {"restore": draw(st.lists(row, max_size=3) | anything)}
        message["to"] = draw(st.sampled_from(["before", "after"]) | anything)
        message["written_down"] = draw(st.booleans() | anything)
        return message
    return draw(anything)


@pytest.mark.soak
def test_garbage_is_answered_and_changes_nothing(
    root: Path, team: Team, request: pytest.FixtureRequest
) -> None:
    """Everything but `go`, in every place of the dialogue: each line has one answer."""
    full, number = (request.config.getoption(name) for name in ("--full-soak", "--seed"))
    number = time.time_ns() if number is None else number
    print(f"--seed {number}")
    before, moments = permissions.snapshot(root), permissions.changed_at(root)
    order = permissions.order(root, team, gid=team.group, clauses=[("+", "w")]).told()
    order |= {"clauses": [["+", "w"]]}
    raw = Raw(root.parent)
    lines = st.one_of(
        messages(order).map(lambda message: json.dumps(message).encode()),
        st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")),
        st.sampled_from([b"[" * 100_000, b"1" * 5000, b'"stop"', b"null", b'{"order":{}}', b""]),
        st.just(json.dumps({"order": order}).encode()),
        st.just(b'{"entries": [".", "data", "data/file"]}'),
    )

    @seed(number)
    @settings(
        max_examples=2000 if full else 100,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(said=st.lists(lines, min_size=1, max_size=8))
    def speak(said: list[bytes]) -> None:
        for line in said:
            answer = raw.say(line)
            assert answer.keys() & {"refused", "end", "accepted", "rows"}
        assert permissions.changed_at(root) == moments

    try:
        speak()
        assert raw.process.poll() is None
        # It has not lost its way: a true order is carried out, once it is told to go.
        for _ in range(2):
            raw.tell("stop")
        # Its three streams and at most the root of an order: nothing leaked on all those ways.
        assert len(os.listdir(f"/proc/{raw.process.pid}/fd")) <= 4
        assert raw.tell({"order": order}) == {"accepted": True}
        assert len(raw.tell({"entries": ["data/file"]})["rows"]) == 1
        assert permissions.snapshot(root) == before
        assert raw.tell("go")["applied"] == []
        assert raw.tell("go") == {"end": "done"}
        assert (root / "data/file").stat().st_gid == team.group
    finally:
        assert raw.end() == b""


def test_a_line_without_an_end_is_the_end(root: Path, team: Team) -> None:
    """Its sender died while writing: half a message may mean anything."""
    before = permissions.snapshot(root)
    raw = Raw(root.parent)
    raw.tell({"order": permissions.order(root, team, gid=team.group).told()})
    raw.tell({"entries": ["data/file"]})
    raw.to_it.write(b'"go"')
    assert raw.end() == b""
    assert raw.process.returncode == 0
    assert permissions.snapshot(root) == before


# --- what it may do -------------------------------------------------------------------------


def test_it_keeps_four_capabilities_under_an_account_of_nobody(privileged: Executor) -> None:
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{pid(privileged)}/status").read_text().splitlines()
    )
    four = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 4  # CHOWN, DAC_READ_SEARCH, FOWNER, FSETID
    assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == {four}
    assert {int(status[name], 16) for name in ("CapInh", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65534"}
    assert status["Groups"].split() == []
    # No socket, no file: its three streams, of which the last is ours.
    kinds = {os.readlink(f"/proc/{pid(privileged)}/fd/{fd}").split(":")[0] for fd in (0, 1)}
    assert kinds == {"pipe"}


CANNOT = """
import os, sys, socket
from pitoolbox.privileged import kernel
kernel.drop_privileges((65534, 65534), kernel.EXECUTOR_CAPS)
file, folder = sys.argv[1:]
tries = {
    "write": lambda: os.open(file, os.O_WRONLY),
    "truncate": lambda: os.truncate(file, 0),
    "unlink": lambda: os.unlink(file),
    "rename": lambda: os.rename(file, file + "2"),
    "create": lambda: os.open(folder + "/new", os.O_CREAT | os.O_WRONLY),
    "mkdir": lambda: os.mkdir(folder + "/new"),
    "link": lambda: os.link(file, folder + "/new"),
    "rmdir": lambda: os.rmdir(folder),
    "kill": lambda: os.kill(int(os.environ["OF_ROOT"]), 0),
    "become root": lambda: os.setuid(0),
    "become ada": lambda: os.setuid(os.stat(file).st_uid),
    "chroot": lambda: os.chroot("/"),
    "device": lambda: os.mknod(folder + "/null", 0o20666, os.makedev(1, 3)),
    "raw socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "nice": lambda: os.nice(-5),
}
for name, attempt in tries.items():
    try:
        attempt()
        print(name)
    except PermissionError:
        pass
done = os.popen("su -c id 2>&1; id -u").read().split()
print("no_new_privs" if done[-1] != "65534" else "", end="")
"""


def test_it_can_neither_write_nor_remove_nor_become_anybody(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CANNOT, root / "data/file", root / "data"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OF_ROOT": str(os.getpid())},
    )
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("account", [(0, 0), (0, 65534), (65534, 0)])
def test_root_that_stays_root_does_not_start(place: Path, account: tuple[int, int]) -> None:
    with (
        pytest.raises(UnavailableError, match="the privileged process has ended"),
        permissions.executor([place], account=account),
    ):
        pytest.fail("it started")


PARENT = """
import sys, time
from tests import permissions
with permissions.executor([sys.argv[1]]) as started:
    print(started._process.pid, flush=True)
    time.sleep(60)
"""


def test_it_dies_with_who_writes_down(place: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, place], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        end = time.monotonic() + 60
        while Path(f"/proc/{child}/fd").exists() and time.monotonic() < end:
            with suppress(OSError):
                if "Z" in Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1][:3]:
                    break
            time.sleep(0.01)
        assert time.monotonic() < end, "it outlived its parent"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_do_not_end_it_in_the_middle_of_a_batch(
    root: Path, privileged: Executor, team: Team, number: signal.Signals
) -> None:
    def interrupt(_: Report) -> Answer:
        os.kill(pid(privileged), number)
        return "go"

    told = permissions.order(root, team, gid=team.group)
    assert len(permissions.carry_out(privileged, told, answer=interrupt).rows) == 3
    assert {entry.gid for entry in permissions.snapshot(root).values()} == {team.group}


def test_without_root_it_does_what_the_account_may(team: Team) -> None:
    """And names the rest: ada changes her file to a group of hers, but not bob's."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "project"
        root.mkdir()
        root.parent.chmod(0o755)
        for name, uid in (("ada", team.ada), ("bob", team.bob)):
            (root / name).touch()
            own(root / name, team, uid)
        own(root, team)
        become = f"os.setgroups([{team.group}]); os.setgid({team.foreign}); os.setuid({team.ada})"
        raw = Raw(Path(folder), become)
        assert raw.ready == {"ready": [], "uid": team.ada}
        raw.tell({"order": permissions.order(root, team, gid=team.group).told()})
        assert len(raw.tell({"entries": [".", "ada", "bob"]})["rows"]) == 3
        assert raw.tell("go")["applied"] == [[2, "failed", "Operation not permitted", False]]
        assert raw.tell("go") == {"end": "done"}
        assert raw.end() == b""
        gids = {path: entry.gid for path, entry in permissions.snapshot(root).items()}
        assert gids == {b".": team.group, b"ada": team.group, b"bob": team.foreign}
