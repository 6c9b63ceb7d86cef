"""The work on one order: entries are listed, judged, told in batches, and then changed."""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from pitoolbox.privileged import checks, kernel, policy, states
from pitoolbox.privileged.errors import FailedError, SkippedError, StoppedError
from pitoolbox.privileged.policy import Order
from pitoolbox.privileged.states import Found, State

BATCH_ROWS = 2000
REPORT_ENTRIES = 5000
TICK_NS = 20_000_000  # longer than any kernel's tick, by which it marks changes
AHEAD_NS = 1_000_000_000
STEADY_TRIES = 5
REPORT_SECONDS = 0.25  # the same where the file system is slow


class Directory(NamedTuple):
    """A directory to walk: where it is, how far below the selected entry, and which it is."""

    path: bytes
    depth: int
    device: int
    inode: int

    @classmethod
    def heard(cls, told: Any) -> "Directory":
        """As it came over the pipe; raises RefusedError, ValueError or TypeError."""
        path, depth, device, inode = told
        depth = checks.integer(depth, 0, 2**31)
        return cls(checks.plain_path(path), depth, _number(device), _number(inode))


class Row(NamedTuple):
    """One change that was written down before, and is brought to one of its sides."""

    path: bytes
    device: int
    inode: int
    before: State
    after: State

    @classmethod
    def heard(cls, told: Any) -> "Row":
        """As it came over the pipe; raises RefusedError, ValueError or TypeError."""
        path, _kind, device, inode, before, after = told
        where = checks.plain_path(path), _number(device), _number(inode)
        return cls(*where, State.heard(before), State.heard(after))


class Held(NamedTuple):
    """An open entry that is to change, with its status when it was judged, after `since_ns`."""

    path: bytes
    fd: int
    before: State
    after: State
    judged: kernel.Status
    since_ns: int


class Work:
    """The entries of one order: judged, told in batches, changed when these are written down."""

    def __init__(self, order: Order, ask: Callable[[dict[str, Any]], Any], files: int) -> None:
        """`ask` sends a message and returns the answer; `files` may be held open at once."""
        self.order = order
        self.ask = ask
        self.batch_rows = max(1, min(BATCH_ROWS, files))
        self.held: list[Held] = []
        self.forget()

    def forget(self) -> None:
        """Let go of everything that was not told yet."""
        for held in self.held:
            os.close(held.fd)
        self.held = []
        self.rows: list[str] = []
        self.issues: list[tuple[str, str, str]] = []
        self.found: list[tuple[str, int, int, int]] = []
        self.seen = self.unchanged = self.vanished = 0
        self.due = time.monotonic() + REPORT_SECONDS

    def entries(self, paths: Iterable[bytes]) -> None:
        """Consider the entries at these paths; directories among them are to be walked."""
        for path in paths:
            # The root itself was opened and pinned before: it has no parent to be below.
            self.seen += 1
            self._at(path, self._entry, path, 0, None, time.time_ns())
            self._pause()
        self.flush()

    def walk(self, directories: Iterable[Directory]) -> None:
        """Consider what is in these directories."""
        for where in directories:
            try:
                fd = kernel.open_beneath(self.order.root, where.path, kernel.OPEN_LISTING)
            except OSError as error:
                self._note(where.path, error)
                continue
            try:
                here = os.fstat(fd)
                if (here.st_dev, here.st_ino) == (where.device, where.inode):
                    self._list(fd, where.path, where.depth + 1)
                else:
                    self._issue(where.path, "failed", "it was replaced by another directory")
            except OSError as error:
                self._note(where.path, error)
            finally:
                os.close(fd)
            self._pause()
        self.flush()

    def restore(self, rows: Iterable[Row], to: str, *, written_down: bool) -> None:
        """Bring entries from one state of a written row to the other, `before` or `after`.

        Each part of the state (owner, group, mode, ACL) must be as the row has it on either
        side. Only group bits, a directory's setgid and the rights of groups and named accounts
        are set back; set-id bits and capabilities never are.
        `written_down`: the rows are those that are being applied, so they are not told again.
        """
        for row in rows:
            self.seen += 1
            self._at(row.path, self._restore, row, to, written_down)
            self._pause()
        self.flush()

    def flush(self) -> None:
        """Tell what was found; change it if told to go on. Raises StoppedError if told to stop."""
        try:
            self._tell(self._report(self.rows))
            if self.held and not self.order.dry_run:
                self._tell(self._report([]) | {"applied": self._apply()})
        finally:
            self.forget()

    def _tell(self, report: dict[str, Any]) -> None:
        if self.ask(report) != "go":
            raise StoppedError

    def _report(self, rows: list[str]) -> dict[str, Any]:
        told = {
            "rows": rows,
            "issues": self.issues,
            "found": self.found,
            "seen": self.seen,
            "unchanged": self.unchanged,
            "vanished": self.vanished,
        }
        self.issues, self.found = [], []
        self.seen = self.unchanged = self.vanished = 0
        return told

    def _apply(self) -> list[tuple[int, str, str, bool]]:
        """What could not be done: number in the batch, kind, reason, whether part of it was."""
        left = []
        for number, held in enumerate(self.held):
            fd, before = held.fd, held.before
            try:
                self._change(held)
            except SkippedError as reason:
                left.append((number, "skipped", str(reason), False))
            except FailedError as reason:
                left.append((number, "failed", str(reason), True))
            except OSError as error:
                touched = not states.is_untouched(fd, before)
                left.append((number, "failed", kernel.reason(error), touched))
        return left

    def _change(self, held: Held) -> None:
        """Change an open entry, once it is sure that what was judged of it still holds."""
        order, judged, found = self.order, held.judged, os.fstat(held.fd)
        is_known = _is_steady(judged, found, held.since_ns)
        if not is_known and not order.override:
            links = self._links(held.fd, held.path, judged, None, 0)
            policy.judge(order, judged, links)
            found = os.fstat(held.fd)
        states.apply(held.fd, held.before, held.after, found, is_known=is_known)

    def _pause(self) -> None:
        """Tell what was found when it is much, or some time has gone by."""
        if (
            len(self.rows) >= self.batch_rows
            or self.seen >= REPORT_ENTRIES
            or time.monotonic() >= self.due
        ):
            self.flush()

    def _list(self, directory: int, path: bytes, depth: int) -> None:
        prefix = b"" if path == b"." else path + b"/"
        proc = kernel.proc_path(directory) + b"/"
        with os.scandir(directory) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                below = prefix + name
                self.seen += 1
                looked_ns = time.time_ns()
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError as error:
                    self._note(below, error)
                    continue
                # What needs no change is not opened, and so never changed by mistake.
                if self._is_right(proc + name, found):
                    self.unchanged += 1
                    self._descend(below, found, depth)
                else:
                    # From the root again: this directory may have been moved out of the project.
                    self._at(below, self._entry, below, depth, found, looked_ns)
                self._pause()

    def _is_right(self, path: bytes, found: os.stat_result) -> bool:
        order, mode = self.order, found.st_mode
        if found.st_dev != order.device:
            return False
        if not self._is_wanted(mode):
            return True
        if found.st_uid != order.uid >= 0 or found.st_gid != order.gid >= 0:
            return False
        if not order.clauses or stat.S_ISLNK(mode):
            return True
        return order.with_clauses(mode) == mode and not states.has_acl(path)

    def _is_wanted(self, mode: int) -> bool:
        return self.order.directories if stat.S_ISDIR(mode) else self.order.files

    def _at(self, path: bytes, consider: Callable[..., bool], *told: Any) -> None:
        """Consider what is at this path; `consider` says whether it holds the descriptor."""
        held = False
        try:
            fd = kernel.open_beneath(self.order.root, path)
            try:
                held = consider(fd, *told)
            finally:
                if not held:
                    os.close(fd)
        except SkippedError as reason:
            self._issue(path, "skipped", str(reason))
        except FailedError as reason:
            self._issue(path, "failed", str(reason))
        except OSError as error:
            self._note(path, error)

    def _entry(
        self, fd: int, path: bytes, depth: int, listed: os.stat_result | None, since_ns: int
    ) -> bool:
        """Judge an open entry; if it is to change, it is held open until that is done.

        `listed`: its status by its name, from before it was opened and after `since_ns`.
        """
        order, found = self.order, kernel.status(fd)
        self._descend(path, found, depth)
        if self._is_wanted(found.st_mode):
            acl = states.read_acl(fd, found.st_mode, for_mode=bool(order.clauses))
            before, after = states.state_of(found, acl), policy.target(order, found, acl)
            if before != after:
                policy.judge(order, found, self._links(fd, path, found, listed, since_ns))
                return self._hold(Held(path, fd, before, after, found, since_ns))
        self.unchanged += 1
        return False

    def _links(
        self, fd: int, path: bytes, found: Found, listed: os.stat_result | None, since_ns: int
    ) -> int:
        """How many names an open file has, of which `path` is one for sure.

        A file from outside could be linked in, opened, and unlinked again before its links are
        counted. Every link and unlink changes the ctime: where it is the same before and after
        the name was looked up, the number is that of the moment in which the name was the file's.
        `listed` is what the name was found to be, after `since_ns` and before it was opened.
        """
        if not stat.S_ISREG(found.st_mode):
            return 1
        if listed is not None and _is_steady(listed, found, since_ns):
            return max(listed.st_nlink, found.st_nlink)
        for _ in range(STEADY_TRIES):
            since_ns, before = time.time_ns(), kernel.status(fd)
            again = kernel.open_beneath(self.order.root, path)
            try:
                named = os.fstat(again)
            finally:
                os.close(again)
            if (named.st_dev, named.st_ino) != (found.st_dev, found.st_ino):
                break
            after = kernel.status(fd)
            if _is_steady(before, after, since_ns):
                return max(before.st_nlink, named.st_nlink, after.st_nlink)
            time.sleep(TICK_NS / 1e9)
        raise FailedError("it was changed or replaced in the same moment")

    def _descend(self, path: bytes, found: Found, depth: int) -> None:
        order = self.order
        if not stat.S_ISDIR(found.st_mode) or not order.recursive or depth >= order.max_depth:
            return
        if found.st_dev == order.device:
            self.found.append((path.decode("latin-1"), depth, found.st_dev, found.st_ino))

    def _restore(self, fd: int, row: Row, to: str, written_down: bool) -> bool:
        order, since_ns, found = self.order, time.time_ns(), kernel.status(fd)
        if (found.st_dev, found.st_ino) != (row.device, row.inode):
            raise SkippedError("something else is at this path now")
        wanted, left = (row.before, row.after) if to == "before" else (row.after, row.before)
        acl = states.read_acl(fd, found.st_mode, for_mode=wanted.mode != left.mode)
        now = states.state_of(found, acl)
        known = now.uid in (wanted.uid, left.uid) and now.gid in (wanted.gid, left.gid)
        known = known and now.acl in (wanted.acl, left.acl)
        # Bit by bit: who was killed between the ACL and the mode left a mixture.
        if not known or (now.mode ^ wanted.mode) & (now.mode ^ left.mode):
            raise SkippedError("it was changed since by somebody else")
        if now == wanted:
            self.unchanged += 1
            return False
        may = 0o2070 if stat.S_ISDIR(found.st_mode) else 0o070
        if stat.S_ISLNK(found.st_mode):
            may = 0
        mode = now.mode & ~may | wanted.mode & may
        after = State(wanted.uid, wanted.gid, mode, states.restored_acl(acl, wanted.acl))
        policy.judge_return(order, now, after)
        policy.judge(order, found, self._links(fd, row.path, found, None, 0))
        if not written_down:
            return self._hold(Held(row.path, fd, now, after, found, since_ns))
        if not order.dry_run:
            states.apply(fd, now, after, os.fstat(fd), is_known=False)
        return False

    def _hold(self, held: Held) -> bool:
        # The line of the journal, made here: nobody has to take it apart on its way there.
        judged = held.judged
        kind = _KINDS.get(stat.S_IFMT(judged.st_mode), "?")
        self.rows.append(
            f"{held.path.hex()},{kind},{judged.st_dev},{judged.st_ino},"
            f"{held.before.line()},{held.after.line()}"
        )
        self.held.append(held)
        return True

    def _note(self, path: bytes, error: OSError) -> None:
        if error.errno == errno.ENOENT:
            self.vanished += 1
        elif error.errno == errno.EXDEV:
            self._issue(path, "skipped", "something is mounted there")
        else:
            self._issue(path, "failed", kernel.reason(error))

    def _issue(self, path: bytes, kind: str, reason: str) -> None:
        self.issues.append((path.decode("latin-1"), kind, reason))


def _is_steady(earlier: Found, later: Found, since_ns: int) -> bool:
    """Whether nothing changed an entry between two looks, both after `since_ns`, links included.

    A change within one tick of the clock after another leaves the ctime as it is, so the last one
    has to be some ticks old by then. A file server's clock may be ahead of ours.
    """
    same = (earlier.st_dev, earlier.st_ino, earlier.st_ctime_ns)
    if same != (later.st_dev, later.st_ino, later.st_ctime_ns):
        return False
    return not -AHEAD_NS <= since_ns - later.st_ctime_ns <= TICK_NS


def _number(told: Any) -> int:
    return checks.integer(told, 0, 2**64 - 1)


_KINDS = {
    stat.S_IFREG: "f",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s",
    stat.S_IFBLK: "b",
    stat.S_IFCHR: "c",
}
