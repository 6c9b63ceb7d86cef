"""The work on one order: entries are listed, judged, told in batches, and then changed."""

import errno
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pitoolbox.privileged import checks, kernel, policy, states
from pitoolbox.privileged.errors import SkippedError, StoppedError
from pitoolbox.privileged.policy import Order
from pitoolbox.privileged.states import State

BATCH_ROWS = 1000  # changes that are told, written down and applied together
REPORT_ENTRIES = 5000  # entries seen between two questions whether to go on


@dataclass
class Work:
    """The entries of one order: judged, told in batches, changed when these are written down.

    `ask` sends a message and returns the answer to it.
    """

    order: Order
    ask: Callable[[dict[str, Any]], Any]
    rows: list[list[Any]] = field(default_factory=list)
    held: list[tuple[int, State, State]] = field(default_factory=list)
    issues: list[tuple[str, str, str]] = field(default_factory=list)
    found: list[tuple[str, int, int, int]] = field(default_factory=list)
    seen: int = 0
    unchanged: int = 0
    vanished: int = 0

    def entries(self, paths: Iterable[bytes]) -> None:
        """Consider the entries at these paths; directories among them are to be walked."""
        for path in paths:
            try:
                fd = kernel.open_beneath(self.order.root, path)
            except OSError as error:
                self._note(path, error)
                continue
            try:
                # The root itself was opened and pinned before: it has no parent to be below.
                self._entry(fd, path, os.fstat(fd), 0, selected=True)
            finally:
                if not self._holds(fd):
                    os.close(fd)
        self.flush()

    def walk(self, directories: Iterable[tuple[bytes, int, int, int]]) -> None:
        """Consider what is in these directories, each given with depth, device and inode."""
        for path, depth, device, inode in directories:
            try:
                fd = kernel.open_beneath(self.order.root, path, kernel.OPEN_LISTING)
            except OSError as error:
                self._note(path, error)
                continue
            try:
                here = os.fstat(fd)
                if (here.st_dev, here.st_ino) != (device, inode):
                    self._issue(path, "failed", "it was replaced by another directory")
                    continue
                self._list(fd, path, depth + 1)
            except OSError as error:
                self._note(path, error)
            finally:
                os.close(fd)
        self.flush()

    def _list(self, directory: int, path: bytes, depth: int) -> None:
        prefix = b"" if path == b"." else path + b"/"
        look_for_acl = bool(self.order.clauses)
        proc = kernel.proc_path(directory) + b"/"
        with os.scandir(directory) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                try:
                    found = entry.stat(follow_symlinks=False)
                    # What needs no change is not opened, and so never changed by mistake.
                    if self._is_right(proc + name, found, look_for_acl):
                        self.seen += 1
                        self.unchanged += 1
                        self._descend(prefix + name, found, depth)
                    else:
                        fd = kernel.open_beneath(directory, name)
                        try:
                            self._entry(fd, prefix + name, os.fstat(fd), depth)
                        finally:
                            if not self._holds(fd):
                                os.close(fd)
                except OSError as error:
                    self._note(prefix + name, error)
                if self.seen >= REPORT_ENTRIES or len(self.rows) >= BATCH_ROWS:
                    self.flush()

    def _is_right(self, path: bytes, found: os.stat_result, look_for_acl: bool) -> bool:
        order = self.order
        if found.st_dev != order.device or not self._is_wanted(found.st_mode):
            return found.st_dev == order.device
        if found.st_uid != order.uid >= 0 or found.st_gid != order.gid >= 0:
            return False
        mode = found.st_mode
        if not look_for_acl or stat.S_ISLNK(mode):
            return True
        if states.group_bits(mode, order.clauses) != mode:
            return False
        try:
            return not os.listxattr(path, follow_symlinks=False)
        except OSError:
            return True

    def _is_wanted(self, mode: int) -> bool:
        return self.order.directories if stat.S_ISDIR(mode) else self.order.files

    def _entry(
        self, fd: int, path: bytes, found: os.stat_result, depth: int, *, selected: bool = False
    ) -> None:
        """Judge an open entry; if it is to change, it is held open until that is done."""
        self.seen += 1
        order = self.order
        try:
            if self._is_wanted(found.st_mode):
                acl = states.read_acl(fd, found.st_mode, for_mode=bool(order.clauses))
                before, after = states.state_of(found, acl), policy.target(order, found, acl)
                if before == after:
                    self.unchanged += 1
                else:
                    policy.judge(order, fd, found)
                    self._hold(fd, path, found, before, after)
            else:
                self.unchanged += 1
        except SkippedError as reason:
            self._issue(path, "skipped", str(reason))
        self._descend(path, found, depth, selected=selected)

    def _descend(
        self, path: bytes, found: os.stat_result, depth: int, *, selected: bool = False
    ) -> None:
        order = self.order
        if not stat.S_ISDIR(found.st_mode) or not order.recursive or depth >= order.max_depth:
            return
        if found.st_dev == order.device:
            self.found.append((path.decode("latin-1"), depth, found.st_dev, found.st_ino))

    def restore(self, rows: Iterable[Any], to: str, *, written_down: bool) -> None:
        """Bring entries from one state of a written row to the other, `before` or `after`.

        Each part of the state (owner, group, mode, ACL) must be as the row has it on either
        side. Only group bits, a directory's setgid and the rights of groups and named accounts
        are set back; set-id bits and capabilities never are.
        `written_down`: the rows are those that are being applied, so they are not told again.
        """
        for row in rows:
            path = checks.plain_path(row[0])
            device, inode = (
                checks.integer(row[2], 0, 2**64 - 1),
                checks.integer(row[3], 0, 2**64 - 1),
            )
            sides = {"before": State.heard(row[4]), "after": State.heard(row[5])}
            self.seen += 1
            try:
                fd = kernel.open_beneath(self.order.root, path)
            except OSError as error:
                self._note(path, error)
                continue
            try:
                self._restore(fd, path, (device, inode), sides, to, written_down)
            except SkippedError as reason:
                self._issue(path, "skipped", str(reason))
            except OSError as error:
                self._note(path, error)
            finally:
                if not self._holds(fd):
                    os.close(fd)
            if len(self.rows) >= BATCH_ROWS:
                self.flush()
        self.flush()

    def _restore(
        self,
        fd: int,
        path: bytes,
        identity: tuple[int, int],
        sides: dict[str, State],
        to: str,
        written_down: bool,
    ) -> None:
        order, found = self.order, os.fstat(fd)
        if (found.st_dev, found.st_ino) != identity:
            raise SkippedError("something else is at this path now")
        wanted, left = sides[to], sides["before" if to == "after" else "after"]
        acl = states.read_acl(fd, found.st_mode, for_mode=wanted.mode != left.mode)
        now = states.state_of(found, acl)
        for part in ("uid", "gid", "mode", "acl"):
            if getattr(now, part) not in (getattr(wanted, part), getattr(left, part)):
                raise SkippedError("it was changed since by somebody else")
        if now == wanted:
            self.unchanged += 1
            return
        may = 0o2070 if stat.S_ISDIR(found.st_mode) else 0o070
        after = State(
            wanted.uid,
            wanted.gid,
            now.mode & ~may | wanted.mode & may,
            states.restored_acl(acl, wanted.acl),
        )
        if after.uid != now.uid and after.uid < order.min_uid:
            raise SkippedError("its former owner is a system account")
        if after.gid != now.gid and after.gid < order.min_gid:
            raise SkippedError("its former group is a system group")
        policy.judge(order, fd, found)
        if written_down:
            states.apply(fd, now, after)
        else:
            self._hold(fd, path, found, now, after)

    def _hold(
        self, fd: int, path: bytes, found: os.stat_result, before: State, after: State
    ) -> None:
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "?")
        shown = path.decode("latin-1")
        self.rows.append([shown, kind, found.st_dev, found.st_ino, before.told(), after.told()])
        self.held.append((fd, before, after))

    def _holds(self, fd: int) -> bool:
        return bool(self.held) and self.held[-1][0] == fd

    def flush(self) -> None:
        """Tell what was found; change it if told to go on. Raises StoppedError if told to stop."""
        rows, held = self.rows, self.held
        self.rows, self.held = [], []
        try:
            answer = self.ask(self._report(rows))
            if answer == "stop":
                raise StoppedError
            if held and answer == "go" and not self.order.dry_run:
                self.ask(self._report([]) | {"applied": self._apply(held)})
        finally:
            for fd, _, _ in held:
                os.close(fd)

    def _report(self, rows: list[list[Any]]) -> dict[str, Any]:
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

    def _apply(self, held: list[tuple[int, State, State]]) -> list[tuple[int, str, str, bool]]:
        """What could not be done: number in the batch, kind, reason, whether part of it was."""
        left = []
        for number, (fd, before, after) in enumerate(held):
            try:
                states.apply(fd, before, after)
            except SkippedError as reason:
                left.append((number, "skipped", str(reason), False))
            except OSError as error:
                touched = states.state_of(os.fstat(fd), before.acl) != before
                left.append((number, "failed", kernel.reason(error), touched))
        return left

    def _note(self, path: bytes, error: OSError) -> None:
        if error.errno == errno.ENOENT:
            self.vanished += 1
        elif error.errno == errno.EXDEV:
            self._issue(path, "skipped", "something is mounted there")
        else:
            self._issue(path, "failed", kernel.reason(error))

    def _issue(self, path: bytes, kind: str, reason: str) -> None:
        self.issues.append((path.decode("latin-1"), kind, reason))


_KINDS = {
    stat.S_IFREG: "f",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s",
    stat.S_IFBLK: "b",
    stat.S_IFCHR: "c",
}
