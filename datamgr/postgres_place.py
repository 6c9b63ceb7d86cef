"""Where the embedded PostgreSQL keeps its files, and who is at work in them."""

import fcntl
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from datamgr.errors import UnavailableError

PORT = 5432  # no port is opened: the number is part of the socket's name
SOCKET_PATH_MAX_BYTES = 107  # Source: unix(7), sun_path without its closing NUL
LOG_MAX_BYTES = 10 << 20
LOG_MARK = b"---- datamgr runs PostgreSQL ----\n"
LOG_CAUSE = re.compile(r"(?:FATAL|PANIC|error): +(.+)")
LOW_DISK_BYTES = 128 << 20  # a new data directory takes 40 MB, and more while it is made


@dataclass(frozen=True)
class Place:
    """The files of one server, in `home`, a directory of the account that calls.

    The kernel drops each of the three locks when its holders are gone, however they went:
    `start.lock` is held by whoever starts or stops the server, `users.lock` by every user
    (shared), `server.lock` by the server's processes, as their inherited standard output. The
    last one also says on which host they run.
    """

    home: Path
    socket_dir: Path

    @classmethod
    def under(cls, state_dir: Path) -> "Place":
        """The place below `state_dir`, the same for every spelling of it; makes nothing yet."""
        home = state_dir.resolve() / "postgres"
        inside = home / "socket"
        # Commas, colons and quotes mean something to the server, to libpq or to SQLAlchemy.
        plain = re.fullmatch(r"[\w/.+ -]+", str(inside), re.ASCII)
        if plain and len(f"{inside}/.s.PGSQL.{PORT}") <= SOCKET_PATH_MAX_BYTES:
            return cls(home, inside)
        digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
        return cls(home, Path(f"/tmp/datamgr-{digest}-{os.geteuid()}"))  # noqa: S108  see below

    @property
    def data(self) -> Path:
        """The data directory; it exists only when complete."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """What the server says; the log before it is `log.old`."""
        return self.home / "log"

    def prepare(self) -> None:
        """Make `home`.

        Raises:
            UnavailableError: it cannot be made, or is another account's.
        """
        with self._explained():
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = self.home.stat().st_uid
        if owner != os.geteuid():
            raise UnavailableError(
                f"{self.home} belongs to account number {owner}; run datamgr as that account, or "
                "choose another state_dir"
            )

    def open(self, name: str, flags: int = 0) -> IO[bytes]:
        """A file of `home`, to read and write, closed to other accounts.

        Raises:
            UnavailableError: it cannot be opened.
        """
        flags |= os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        with self._explained():
            return os.fdopen(os.open(self.home / name, flags, 0o600), "r+b", buffering=0)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only one who starts or stops the server; waits for its turn.

        Raises:
            UnavailableError: also for an OSError in the block.
        """
        with self.open("start.lock") as lock, self._explained():
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield
            finally:
                unlock(lock)

    def alive(self) -> bool:
        """Whether any process of the server is left. To be asked `alone()`."""
        with self.open("server.lock") as lock:
            if not try_lock(lock):
                return True
            unlock(lock)
            return False

    @contextmanager
    def server_lock(self) -> Iterator[IO[bytes]]:
        """`server.lock`, held; whoever inherits the file goes on holding it."""
        with self.open("server.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.truncate()
            lock.write("\n".join(_this_host()).encode())
            yield lock

    def require_this_host(self) -> None:
        """Refuse files that a server on another host has open, or had when that host crashed.

        Neither PostgreSQL nor the locks can tell on a shared file system such as GPFS, whose
        flock works within one node. A container has a name of its own but its host's boot number.

        Raises:
            UnavailableError: names that host.
        """
        with self.open("server.lock") as lock:
            there = lock.read().decode().split("\n")
        elsewhere = len(there) == 2 and not set(there) & set(_this_host())
        pid_file = self.data / "postmaster.pid"
        if elsewhere and pid_file.exists():
            raise UnavailableError(
                f"{self.data} is in use on the host {there[0]}; run datamgr there, choose another "
                f"state_dir or set database.url (had that host crashed, remove {pid_file})"
            )

    def postmaster(self) -> int | None:
        """The process that postmaster.pid names, if it is this server and not a later namesake."""
        try:
            process_id = int((self.data / "postmaster.pid").read_bytes().split(b"\n")[0])
            argv = Path(f"/proc/{process_id}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        ours = argv[0].endswith(b"postgres") and os.fsencode(self.data) in argv
        return process_id if ours else None

    def says_ready(self) -> bool:
        """Whether the server wrote that it takes connections; asking earlier would fill its log.

        Source: PostgreSQL manual, pg_ctl, which waits for this last line of postmaster.pid.
        """
        try:
            return (self.data / "postmaster.pid").read_bytes().rstrip().endswith(b"\nready")
        except FileNotFoundError:
            return False

    def require_private_socket_dir(self) -> None:
        """Refuse a directory that others may enter: every account that can is let in as datamgr.

        Raises:
            UnavailableError: it is not a directory, has another owner, or is open to others.
        """
        found = self.socket_dir.lstat()
        owner = self.data.stat().st_uid if self.data.exists() else os.geteuid()
        closed = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
        if not closed or found.st_uid not in (owner, os.geteuid()):
            raise UnavailableError(
                f"{self.socket_dir} must be a directory of our own with mode 0700 and is not; "
                "remove it, or choose another state_dir"
            )

    @contextmanager
    def open_log(self) -> Iterator[IO[bytes]]:
        """The log, to append to; one that has grown long is put aside first."""
        if self.log.exists() and self.log.stat().st_size > LOG_MAX_BYTES:
            self.log.replace(self.home / "log.old")
        with self.open(self.log.name, os.O_APPEND) as log:
            log.write(LOG_MARK)
            yield log

    def failure(self, action: str) -> UnavailableError:
        """The error that says why the last thing run could not `action`, out of the log."""
        said = self.log.read_bytes().rpartition(LOG_MARK)[2].decode(errors="replace").strip()
        lines = LOG_CAUSE.findall(said) or said.splitlines()
        reason = lines[-1] if lines else "it ended without saying why"
        free_bytes = shutil.disk_usage(self.home).free
        if free_bytes < LOW_DISK_BYTES:
            reason += f" (only {free_bytes >> 20} MiB are free on this file system)"
        return UnavailableError(
            f"cannot {action} the PostgreSQL in {self.data}: {reason}; see {self.log}"
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnavailableError(
                f"the embedded PostgreSQL cannot use {error.filename or self.home}: "
                f"{error.strerror}"
            ) from error


def try_lock(lock: IO[bytes]) -> bool:
    """Lock the file for oneself, unless others hold it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(lock: IO[bytes]) -> None:
    """Unlock the file for good; closing would leave it to forked children that have it open."""
    fcntl.flock(lock, fcntl.LOCK_UN)


def _this_host() -> tuple[str, str]:
    return os.uname().nodename, Path("/proc/sys/kernel/random/boot_id").read_text().strip()
