"""Drives one privileged process through an order, and says what stands in a tree."""

import os
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from pitoolbox.executor import (
    Answer,
    Directory,
    Executor,
    ExecutorPolicy,
    Issue,
    Order,
    Report,
    Row,
    default_account,
)
from tests.accounts import Team

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


@contextmanager
def executor(
    roots: Sequence[Path | str],
    *,
    staff_users: Sequence[str] = (),
    min_id: int = 1000,
    account: tuple[int, int] | None = None,
) -> Iterator[Executor]:
    """A privileged process for these roots."""
    started = Executor(
        ExecutorPolicy(
            [str(root) for root in roots],
            min_id,
            min_id,
            staff_users,
            [],
            account or default_account(),
        )
    )
    try:
        yield started
    finally:
        started.close()


def order(root: Path, team: Team, /, **changes: object) -> Order:
    """An order of ada for the whole tree below `root`, unless `changes` say something else."""
    found = root.stat()
    told: dict[str, object] = {
        "root": os.fsencode(root),
        "device": found.st_dev,
        "inode": found.st_ino,
        "groups": [team.group, team.second],
        "requester": team.ada,
        "override": False,
        "dry_run": False,
        "recursive": True,
    }
    return Order(**(told | changes))  # type: ignore[arg-type]


@dataclass
class Outcome:
    """All that the reports of one order said."""

    rows: list[Row] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    left: list[tuple[int, str, str, bool]] = field(default_factory=list)
    seen: int = 0
    unchanged: int = 0
    vanished: int = 0

    @property
    def changed(self) -> dict[bytes, Row]:
        """What was told, and then done as far as `left` is empty."""
        return {row.path: row for row in self.rows}

    @property
    def reasons(self) -> dict[bytes, str]:
        return {issue.path: issue.reason for issue in self.issues}


def carry_out(
    by: Executor,
    told: Order,
    paths: Iterable[bytes] = (b".",),
    *,
    answer: Callable[[Report], Answer] = lambda _: "go",
) -> Outcome:
    """The order on these paths and what is below them, as one client that writes nothing down."""
    outcome, stack = Outcome(), list[Directory]()

    def report(heard: Report) -> Answer:
        outcome.rows += heard.rows
        outcome.issues += heard.issues
        outcome.left += heard.applied or []
        outcome.seen += heard.seen
        outcome.unchanged += heard.unchanged
        outcome.vanished += heard.vanished
        stack.extend(heard.found)
        return answer(heard)

    by.begin(told)
    by.entries(paths, report)
    while stack:
        share = stack[-32:]
        del stack[-32:]
        by.walk(share, report)
    return outcome


def undo(by: Executor, told: Order, rows: Sequence[Row]) -> Outcome:
    """Bring all rows back to what was before, by an order that changes nothing itself."""
    outcome = Outcome()

    def report(heard: Report) -> Answer:
        outcome.rows += heard.rows
        outcome.issues += heard.issues
        outcome.left += heard.applied or []
        return "go"

    by.begin(replace(told, uid=-1, gid=-1, clauses=()))
    for begin in range(0, len(rows), 500):
        by.restore(rows[begin : begin + 500], "before", report, written_down=False)
    return outcome


@dataclass(frozen=True)
class Entry:
    """What a permission tool can change of an entry."""

    kind: int
    uid: int
    gid: int
    mode: int
    acl: bytes | None
    default: bytes | None


def walk(root: Path) -> Iterator[tuple[bytes, bytes]]:
    """Relative and whole path of the root and of all below it."""
    whole = os.fsencode(root)
    yield b".", whole
    for folder, directories, files in os.walk(whole):
        for name in [*directories, *files]:
            path = os.path.join(folder, name)
            yield os.path.relpath(path, whole), path


def snapshot(root: Path) -> dict[bytes, Entry]:
    """Every entry below `root`, and `root` itself as `.`."""
    return {relative: entry(path) for relative, path in walk(root)}


def changed_at(root: Path) -> dict[bytes, int]:
    """The ctime of every entry, in nanoseconds."""
    return {relative: os.lstat(path).st_ctime_ns for relative, path in walk(root)}


def entry(path: bytes | Path) -> Entry:
    found = os.lstat(path)
    mode = found.st_mode
    return Entry(
        stat.S_IFMT(mode),
        found.st_uid,
        found.st_gid,
        stat.S_IMODE(mode),
        xattr(path, ACCESS),
        xattr(path, DEFAULT),
    )


def xattr(path: bytes | Path, name: str) -> bytes | None:
    with suppress(OSError):
        return os.getxattr(path, name, follow_symlinks=False)
    return None


def run(*argv: str | bytes | Path, check: bool = True) -> str:
    """What a tool printed."""
    done = subprocess.run(argv, check=False, capture_output=True)
    if check and done.returncode:
        raise RuntimeError(f"{argv[0]!r}: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode(errors="surrogateescape")
