"""The embedded PostgreSQL: its first user starts it, all share it, the last one stops it."""

import fcntl
import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import sqlalchemy as sa

from datamgr import postgres_account, postgres_cluster, postgres_place, process
from datamgr.errors import ConflictError, UnavailableError
from datamgr.postgres_account import Account
from datamgr.postgres_cluster import NAME
from datamgr.postgres_place import PORT, Place

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 300.0  # after a crash the write-ahead log is replayed first
STOP_TIMEOUT_S = 300.0
ORPHAN_GRACE_S = 2.0


@dataclass(frozen=True)
class Server:
    """A server that answers on the socket in `socket_dir`; its messages are in `log`."""

    socket_dir: Path
    log: Path

    def url(self, database: str = NAME) -> sa.URL:
        """The SQLAlchemy URL of one of its databases."""
        # The port is spelled out because PGPORT in the environment would change it.
        query = {"host": str(self.socket_dir), "port": str(PORT)}
        return sa.URL.create("postgresql+psycopg2", NAME, database=database, query=query)


@contextmanager
def running(state_dir: Path) -> Iterator[Server]:
    """Keep the PostgreSQL of `state_dir` running for the block, created and started if needed.

    Any number of processes and threads may do so at once; one that is killed counts as gone.
    A forked child may use the server as long as its parent does, and stops nothing itself.

    Raises:
        UnavailableError: it cannot be created, started or stopped; the message says why.
    """
    place = Place.under(state_dir)
    place.prepare()
    with place.open("users.lock") as users:
        with place.alone():
            _ensure_started(place)
            fcntl.flock(users, fcntl.LOCK_SH)
        process_id = os.getpid()
        try:
            yield Server(place.socket_dir, place.log)
        finally:
            if os.getpid() == process_id:
                _leave(place, users)


def stop(state_dir: Path) -> bool:
    """Stop a server that killed processes left running; False if there was none.

    Raises:
        ConflictError: somebody uses it.
        UnavailableError: it does not stop, or belongs to another account.
    """
    place = Place.under(state_dir)
    if not place.home.exists():
        return False
    place.prepare()
    with place.open("users.lock") as users, place.alone():
        place.require_this_host()
        if not place.alive():
            return False
        if not postgres_place.try_lock(users):
            raise ConflictError(
                f"the PostgreSQL in {place.home} is in use by a datamgr process; end that first"
            )
        _stop(place)
        return True


def _leave(place: Place, users: IO[bytes]) -> None:
    with place.alone():
        last = postgres_place.try_lock(users)
        postgres_place.unlock(users)
        if last:
            _stop(place)


def _ensure_started(place: Place) -> None:
    place.require_this_host()
    if _comes_up(place):
        return
    account = postgres_account.choose(place.data)
    if account.uid != os.geteuid():
        place.home.chmod(0o711)
    postgres_account.require_reach(account, postgres_cluster.find_program("postgres"), place.home)
    with place.open_log() as log:
        if not place.data.exists():
            postgres_cluster.initialise(place, account, log)
        postgres_cluster.require_version(place.data)
        _clear_stale(place)
        with suppress(FileExistsError):
            place.socket_dir.mkdir(mode=0o700)
        place.require_private_socket_dir()
        os.chown(place.socket_dir, account.uid, account.gid, follow_symlinks=False)
        _launch(place, account, log)
    if not _comes_up(place):
        raise place.failure("start")
    logger.info("started PostgreSQL in %s", place.data)


def _comes_up(place: Place) -> bool:
    """Whether a server runs; waits for one that recovers, and for the end of one that stops."""
    for waited_s in _poll(START_TIMEOUT_S):
        if not place.alive():
            return False
        if _answers(place):
            return True
        if waited_s > ORPHAN_GRACE_S and place.postmaster() is None:
            _end_orphans(place.data)
    state = "is still starting" if place.postmaster() else "was killed and left processes at work"
    raise UnavailableError(
        f"the PostgreSQL in {place.data} {state}: no answer within {START_TIMEOUT_S:.0f} s; try "
        f"again later, or see {place.log}"
    )


def _answers(place: Place) -> bool:
    if not place.says_ready():
        return False
    place.require_private_socket_dir()
    # Unlike a connection of our own it also says yes when all connections are taken.
    ask = (str(postgres_cluster.find_program("pg_isready")), "-t", "3", "-U", NAME)
    where = ("-h", str(place.socket_dir), "-p", str(PORT))
    try:
        process.run([*ask, *where], timeout_s=10, env=postgres_cluster.environment())
    except UnavailableError:
        return False
    return True


def _clear_stale(place: Place) -> None:
    # No process of the server is left, so the one that a file names is an unrelated later one.
    if place.postmaster() is None:
        (place.data / "postmaster.pid").unlink(missing_ok=True)
        for remains in place.socket_dir.glob(".s.PGSQL.*"):
            remains.unlink(missing_ok=True)


def _launch(place: Place, account: Account, log: IO[bytes]) -> None:
    program = str(postgres_cluster.find_program("postgres"))
    argv = [
        # In a session of its own Ctrl-C does not reach it. It is no child of ours, because it
        # may outlive the block that started it and nobody would reap it.
        *("setsid", "--fork", *account.prefix, program, "-D", str(place.data)),
        *("-c", "listen_addresses=", "-c", f"port={PORT}"),
        *("-c", f'unix_socket_directories="{place.socket_dir}"'),
        *("-c", "unix_socket_permissions=0700"),
        # In the data directory, too: segments in /dev/shm would outlive a killed server.
        *("-c", "dynamic_shared_memory_type=mmap"),
    ]
    env = postgres_cluster.environment()
    with (
        place.server_lock() as lock,
        process.spawn(argv, stdout=lock, stderr=log, env=env, cwd=Path("/")) as setsid,
    ):
        setsid.wait()


def _stop(place: Place) -> None:
    """Fast shutdown: roll back what is open and write everything down. Never a kill."""
    for waited_s in _poll(STOP_TIMEOUT_S):
        if not place.alive():
            with suppress(OSError):
                place.socket_dir.rmdir()  # it may be in /tmp
            logger.info("stopped PostgreSQL in %s", place.data)
            return
        postmaster = place.postmaster()
        if postmaster is not None:
            with suppress(ProcessLookupError):
                os.kill(postmaster, signal.SIGINT)
        elif waited_s > ORPHAN_GRACE_S:
            _end_orphans(place.data)
    raise UnavailableError(
        f"the PostgreSQL in {place.data} did not stop within {STOP_TIMEOUT_S:.0f} s; "
        f"see {place.log}"
    )


def _end_orphans(data: Path) -> None:
    """End what a killed postmaster left at work, as it would itself have done after a crash."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            ours = (entry / "cwd").samefile(data)
            if ours and (entry / "comm").read_text().strip() == "postgres":
                os.kill(int(entry.name), signal.SIGQUIT)


def _poll(timeout_s: float) -> Iterator[float]:
    """The seconds waited so far, often at first, until `timeout_s` have passed."""
    start, pause_s = time.monotonic(), 0.005
    while (waited_s := time.monotonic() - start) < timeout_s:
        yield waited_s
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.1)
