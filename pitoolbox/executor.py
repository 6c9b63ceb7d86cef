"""The privileged processes as seen by the worker: started early, fed with orders, answered.

The worker that speaks to the database holds no capability; these hold four and no database.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

from datamgr import process
from datamgr.errors import InvalidError, UnavailableError

Answer = Literal["go", "stop"]

# Isolated from environment, user packages and site packages: the standard library and
# `pitoolbox.privileged` are all that it can import.
_BOOT = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1));"
    "runpy.run_module('pitoolbox.privileged', run_name='__main__', alter_sys=True)"
)


@dataclass(frozen=True)
class ExecutorPolicy:
    """What the operator allows; goes to the process as its argument."""

    roots: Sequence[str]
    min_uid: int
    min_gid: int
    staff_users: Sequence[str]
    staff_groups: Sequence[str]
    account: tuple[int, int] | None


@dataclass(frozen=True)
class Order:
    """One request with numbers for names. -1 and no clauses change nothing.

    `clauses`: pairs such as `("+", "rX")`. `max_depth`: 0 is the selected entries alone.
    """

    root: bytes
    device: int
    inode: int
    groups: Sequence[int]
    requester: int
    override: bool
    dry_run: bool
    uid: int = -1
    gid: int = -1
    clauses: Sequence[tuple[str, str]] = ()
    recursive: bool = False
    max_depth: int = 2**31
    files: bool = True
    directories: bool = True

    def told(self) -> dict[str, Any]:
        """As it goes over the pipe."""
        return asdict(self) | {"root": self.root.decode("latin-1")}


class Row(NamedTuple):
    """One entry that is about to change; a state is owner, group, mode and ACL in hexadecimal."""

    path: bytes
    kind: str
    device: int
    inode: int
    before: tuple[int, int, int, str | None]
    after: tuple[int, int, int, str | None]

    @classmethod
    def parsed(cls, line: str) -> "Row":
        """The row of a line of the journal."""
        path, kind, device, inode, *states = line.split(",")
        before, after = _state(*states[:4]), _state(*states[4:])
        return cls(bytes.fromhex(path), kind, int(device), int(inode), before, after)

    def line(self) -> str:
        """The row as a line of the journal: CSV, the path in hexadecimal, without its end."""
        states = ",".join("" if part is None else str(part) for part in self.before + self.after)
        return f"{self.path.hex()},{self.kind},{self.device},{self.inode},{states}"

    def told(self) -> list[Any]:
        """As it goes over the pipe."""
        shown = self.path.decode("latin-1")
        return [shown, self.kind, self.device, self.inode, self.before, self.after]


def _state(uid: str, gid: str, mode: str, acl: str) -> tuple[int, int, int, str | None]:
    return int(uid), int(gid), int(mode), acl or None


class Rows(Sequence[Row]):
    """Rows kept as lines of the journal, taken apart only when they are looked at."""

    def __init__(self, lines: Sequence[str]) -> None:
        """Raises ValueError when a line could be taken for several."""
        joined = "".join(lines)
        if "\n" in joined or "\r" in joined or '"' in joined:
            raise ValueError("a line of the journal has a line end or a quote in it")
        self.lines = lines

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "Rows":
        """The rows as lines."""
        return cls([row.line() for row in rows])

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if isinstance(index, slice):
            return Rows(self.lines[index])
        return Row.parsed(self.lines[index])


@dataclass(frozen=True)
class Directory:
    """A directory to walk, with its depth below the selected entry."""

    path: bytes
    depth: int
    device: int
    inode: int


@dataclass(frozen=True)
class Issue:
    """An entry that was left as it is: `kind` is `skipped` (by policy) or `failed`."""

    path: bytes
    kind: str
    reason: str


@dataclass(frozen=True)
class Report:
    """What one process found since its last report.

    `applied`: None in a report that asks whether to go on with `rows`; afterwards the rows of
    that batch that were not done: number, kind, reason, whether a part of it was done.
    """

    rows: Rows
    issues: Sequence[Issue]
    found: Sequence[Directory]
    seen: int
    unchanged: int
    vanished: int
    applied: Sequence[tuple[int, str, str, bool]] | None


class ExecutorDiedError(UnavailableError):
    """The privileged process is no more; nothing is known of the batch it was told to apply."""


class Executor:
    """One privileged process. Not to be shared by threads.

    Start it in a thread that outlives it: the kernel ends it with that thread.
    """

    def __init__(self, policy: ExecutorPolicy) -> None:
        """Start it and wait until it has dropped what it does not need.

        Raises:
            UnavailableError: it does not start, or ends at once.
        """
        place = str(Path(__file__).resolve().parents[1])
        # Names of files are bytes in any locale, so the locale is not asked.
        flags = ["-I", "-S", "-X", "utf8"]
        argv = [sys.executable, *flags, "-c", _BOOT, place, json.dumps(asdict(policy))]
        self._process = process.spawn(
            argv, stdin=process.PIPE, stdout=process.PIPE, new_session=True
        )
        self._to_it, self._from_it = process.pipes(self._process)
        try:
            ready = self._hear()
        except BaseException:
            self.close()
            raise
        self.capabilities: list[int] = ready["ready"]
        self.uid: int = ready["uid"]

    @property
    def is_privileged(self) -> bool:
        """Whether it may change what the worker's own account may not."""
        return bool(self.capabilities)

    def check(self) -> None:
        """Look whether it still runs, without asking it.

        Raises:
            ExecutorDiedError: it is no more.
        """
        if self._process.poll() is not None:
            raise ExecutorDiedError("the privileged process has ended")

    def begin(self, order: Order) -> None:
        """Hand it the order that what follows belongs to.

        Raises:
            InvalidError: it refuses the order; the message is its sentence.
            ExecutorDiedError: it is no more.
        """
        self._tell({"order": order.told()})
        self._hear()

    def entries(self, paths: Iterable[bytes], on_report: Callable[[Report], Answer]) -> bool:
        """Consider the entries at these paths; whether it came to the end, not to a stop."""
        return self._work({"entries": [path.decode("latin-1") for path in paths]}, on_report)

    def walk(self, directories: Iterable[Directory], on_report: Callable[[Report], Answer]) -> bool:
        """Consider what is in these directories; whether it came to the end, not to a stop."""
        told = [(d.path.decode("latin-1"), d.depth, d.device, d.inode) for d in directories]
        return self._work({"walk": told}, on_report)

    def restore(
        self,
        rows: Iterable[Row],
        to: Literal["before", "after"],
        on_report: Callable[[Report], Answer],
        *,
        written_down: bool,
    ) -> bool:
        """Bring entries to one side of a change; whether it came to the end, not to a stop."""
        told = {"restore": [row.told() for row in rows], "to": to, "written_down": written_down}
        return self._work(told, on_report)

    def close(self) -> None:
        """End the process, after the batch that it is in."""
        self._to_it.close()
        self._process.wait()
        self._from_it.close()

    def _work(self, told: Mapping[str, Any], on_report: Callable[[Report], Answer]) -> bool:
        self._tell(told)
        while "end" not in (heard := self._hear()):
            try:
                answer = on_report(_report(heard))
            except BaseException:
                self._stop()
                raise
            self._tell(answer)
        return bool(heard["end"] == "done")

    def _stop(self) -> None:
        """End what it works on, so that the next message is not taken for an answer."""
        self._tell("stop")
        while "end" not in self._hear():
            self._tell("stop")

    def _tell(self, message: object) -> None:
        try:
            self._to_it.write(json.dumps(message).encode() + b"\n")
            self._to_it.flush()
        except OSError as error:
            raise ExecutorDiedError("the privileged process has ended") from error

    def _hear(self) -> dict[str, Any]:
        line = self._from_it.readline()
        if not line.endswith(b"\n"):
            raise ExecutorDiedError("the privileged process has ended")
        heard: dict[str, Any] = json.loads(line)
        if "refused" in heard:
            raise InvalidError(str(heard["refused"]))
        return heard


def _report(heard: Mapping[str, Any]) -> Report:
    return Report(
        rows=Rows(heard["rows"]),
        issues=[Issue(path.encode("latin-1"), *rest) for path, *rest in heard["issues"]],
        found=[Directory(path.encode("latin-1"), *rest) for path, *rest in heard["found"]],
        seen=heard["seen"],
        unchanged=heard["unchanged"],
        vanished=heard["vanished"],
        applied=heard.get("applied"),
    )


def default_account() -> tuple[int, int] | None:
    """What root becomes in the process when nothing is configured: nobody."""
    return (65534, 65534) if os.geteuid() == 0 else None
