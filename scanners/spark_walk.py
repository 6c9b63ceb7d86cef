"""Walk directory trees on Spark's executors, straight into Parquet.

The walk goes in rounds. A round is one Spark job whose tasks share the directories found so far;
each walks for some seconds and hands back what it has not visited, so that a large project is
shared out anew. A task writes into a directory of its attempt, and only those of attempts whose
answer arrived become parts of the scan: what a lost attempt wrote is walked again by another.
"""

import functools
import logging
import os
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyspark import TaskContext
from pyspark.sql import SparkSession

from datamgr.config import Settings
from datamgr.errors import DatamgrError, UnavailableError
from scanners import mounts, parts, record
from scanners.directory import Frame
from scanners.spark_engine import explained, running
from scanners.store import sync_directory
from scanners.walk import Progress, WalkResult, root_frames
from scanners.walker import DIRECTORIES, ENTRIES, SLOTS, Walker, WalkOptions

log = logging.getLogger(__name__)

# Spark numbers the attempts of all tasks; each may find 2^32 directories.
DIR_ID_SHIFT = 32
ATTEMPTS = "attempts"
# A task's seconds begin short, to find enough directories to share, and double up to a limit that
# bounds how long an executor without work waits for the end of a round.
FIRST_ROUND_S, LONGEST_ROUND_S = 0.5, 10.0
SHARES_PER_CORE = 2
PIECES_PER_SHARE = 4


@dataclass(frozen=True)
class Share:
    """What one task walks: the roots as the driver sees them, and directories to visit."""

    roots: Sequence[Frame]
    frames: Sequence[Frame]
    seconds: float


@dataclass(frozen=True)
class Walked:
    """What one attempt did; `failure` is the sentence with which it ended early."""

    attempt: int
    executor: tuple[str, int]
    entries: int = 0
    directories: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list)
    failure: str | None = None


def walk(
    settings: Settings,
    roots: Iterable[bytes],
    scan_dir: Path,
    options: WalkOptions,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> WalkResult:
    """As `walk.walk`, on executors that see the roots and `scan_dir` at the same paths.

    `on_progress` is called once a round.

    Raises:
        UnavailableError: as `walk.walk`; Spark gave up; an executor sees another file system.
    """
    roots = list(roots)
    above = frames = root_frames(roots)
    attempts = scan_dir / ATTEMPTS
    attempts.mkdir()
    seconds, entries, directories, errors = FIRST_ROUND_S, 0, 0, Counter[str]()
    with mounts.held(roots), running(settings) as session:
        while frames:
            with explained("walking"):
                walked = _round(session, attempts, options, above, frames, seconds)
            for one in walked:
                if one.failure:
                    raise UnavailableError(one.failure)
                _adopt(attempts / str(one.attempt), scan_dir)
                entries, directories = entries + one.entries, directories + one.directories
                errors.update(one.errors)
            on_progress(Progress(entries, directories, errors.total()))
            frames = [frame for one in walked for frame in one.frames]
            seconds = min(2 * seconds, LONGEST_ROUND_S)
    # An attempt that Spark gave up and that still works finds its directory gone; what it makes
    # there even now is left to the next clean-up.
    going = scan_dir.with_name(f"{ATTEMPTS}-{scan_dir.name}")
    attempts.rename(going)
    shutil.rmtree(going, ignore_errors=True)
    for dataset in record.SCHEMAS:
        sync_directory(scan_dir / dataset)
    return WalkResult(entries, directories, dict(errors))


def _round(
    session: SparkSession,
    attempts: Path,
    options: WalkOptions,
    roots: Sequence[Frame],
    frames: Sequence[Frame],
    seconds: float,
) -> list[Walked]:
    """One job over the directories to visit."""
    context = session.sparkContext
    number = context.defaultParallelism * SHARES_PER_CORE
    shares = [Share(roots, share, seconds) for share in share_out(frames, number)]
    tasks = context.parallelize(shares, len(shares))
    walked = tasks.map(functools.partial(walk_share, attempts, options)).collect()
    log.info("%d tasks by %d executors", len(shares), len({one.executor for one in walked}))
    return walked


def share_out(frames: Sequence[Frame], number: int) -> list[list[Frame]]:
    """The directories to visit in at most `number` shares, each with some of every level."""
    total = sum(len(frame.names) for frame in frames)
    size = max(total // (number * PIECES_PER_SHARE), 1)
    pieces = [
        replace(frame, names=frame.names[i : i + size], inodes=frame.inodes[i : i + size])
        for frame in frames
        for i in range(0, len(frame.names), size)
    ]
    return [pieces[i::number] for i in range(min(number, len(pieces)))]


def walk_share(attempts: Path, options: WalkOptions, share: Share) -> Walked:
    """On an executor: walk until the time is over, and hand back what is left.

    What a user can act on is an answer, not a failure that Spark would repeat.
    """
    context = TaskContext.get()
    assert context is not None  # noqa: S101  it is Spark that calls
    attempt = context.taskAttemptId()
    # Spark starts each executor's Python processes from one.
    executor = (socket.gethostname(), os.getppid())
    try:
        return _walk_share(attempt, executor, attempts, options, share)
    except DatamgrError as error:
        return Walked(attempt, executor, failure=f"{error} (says {executor[0]})")


def _walk_share(
    attempt: int, executor: tuple[str, int], attempts: Path, options: WalkOptions, share: Share
) -> Walked:
    devices = devices_here(share.roots)
    if options.cross_mounts and any(there != here for there, here in devices.items()):
        raise UnavailableError(
            "with --cross-mounts all executors must give file systems the same device numbers; "
            "scan each file system by itself"
        )
    directory = attempts / str(attempt)
    try:
        for folder in (directory, *(directory / dataset for dataset in record.SCHEMAS)):
            folder.mkdir()
    except OSError as error:
        raise UnavailableError(
            f"an executor cannot write {directory}: {error.strerror}; put scan.store_dir on a "
            "file system that all executors share"
        ) from error
    back = {here: there for there, here in devices.items()}
    counters = [0] * SLOTS
    walker = Walker(
        attempt << DIR_ID_SHIFT,
        lambda dataset: _PartWriter(directory, dataset, attempt, back),
        options,
        counters,
    )
    walker.stack = [_moved(frame, devices) for frame in share.frames]
    end = time.monotonic() + share.seconds
    while walker.visit_next() and time.monotonic() < end:
        pass
    errors = walker.close()
    left = [_moved(frame, back) for frame in walker.stack if frame.names]
    return Walked(attempt, executor, counters[ENTRIES], counters[DIRECTORIES], errors, left)


def devices_here(roots: Sequence[Frame]) -> dict[int, int]:
    """The numbers on this host of the driver's devices: hosts number what they mount themselves.

    Raises:
        UnavailableError: a root is not the directory that the driver sees.
    """
    found: dict[int, int] = {}
    for there, here in zip(roots, root_frames(root.names[0] for root in roots), strict=True):
        if (
            here.inodes != there.inodes
            or found.setdefault(there.device, here.device) != here.device
        ):
            raise UnavailableError(
                f"{os.fsdecode(there.names[0])} is another directory on an executor; mount the "
                "same file system at the same path on all of them"
            )
    return found


def _moved(frame: Frame, devices: dict[int, int]) -> Frame:
    return replace(frame, device=devices.get(frame.device, frame.device))


class _PartWriter(parts.PartWriter):
    """Writes the device numbers of the driver, for links of one inode are found by them."""

    def __init__(self, directory: Path, dataset: str, writer: int, devices: dict[int, int]) -> None:
        super().__init__(directory, dataset, writer)
        self._column = record.SCHEMAS[dataset].get_field_index("dev")
        self._devices = {here: there for here, there in devices.items() if here != there}

    def write(self, columns: list[pa.Array]) -> None:
        """As `parts.PartWriter.write`."""
        if self._devices and self._column >= 0:
            own = renumbered = columns[self._column]
            for here, there in self._devices.items():
                renumbered = pc.if_else(pc.equal(own, here), there, renumbered)
            columns = [*columns]
            columns[self._column] = renumbered.cast(pa.int64())
        super().write(columns)


def _adopt(attempt: Path, scan_dir: Path) -> None:
    """Make what an attempt wrote parts of the scan.

    Raises:
        UnavailableError: the scan store fails.
    """
    try:
        for dataset in record.SCHEMAS:
            for part in parts.part_files(attempt, dataset):
                os.rename(part, scan_dir / dataset / os.path.basename(part))
    except OSError as error:
        raise UnavailableError(f"cannot write the scan store {scan_dir}: {error}") from error
