"""Walk directory trees with several processes, straight into Parquet and in flat memory.

Each process keeps a stack of directories still to visit and hands half of it over when another
one has nothing to do (see `walker`).
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import Any, cast

from datamgr.errors import UnavailableError
from scanners import mounts
from scanners.directory import Frame, root_frame
from scanners.walker import DIRECTORIES, ENTRIES, ERRORS, SLOTS, WalkOptions, walk_process

PROGRESS_INTERVAL_S = 0.2
_KILLED = "a walking process was killed; the machine may be out of memory"


@dataclass(frozen=True)
class Progress:
    """What was seen so far."""

    entries: int
    directories: int
    errors: int


@dataclass(frozen=True)
class WalkResult:
    """What was seen in all; `errors` counts by reason (see `record.REASONS`).

    `roots` are given where only the result tells them.
    """

    entries: int
    directories: int
    errors: dict[str, int] = field(default_factory=dict)
    roots: tuple[bytes, ...] = ()


def default_workers() -> int:
    """One process per usable core, at most 8: metadata servers suffer from more."""
    return min(8, len(os.sched_getaffinity(0)))


def walk(
    roots: Iterable[bytes],
    scan_dir: Path,
    options: WalkOptions,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> WalkResult:
    """Record everything below `roots` into the datasets of `scan_dir` (see `record`).

    `on_progress` is called several times a second; an exception it raises stops the walk.

    Raises:
        UnavailableError: a root cannot be listed or was replaced, the disk is full, or a walking
            process was killed.
    """
    roots = list(roots)
    # Spawned, not forked: the caller may hold threads, locks and database connections.
    context = multiprocessing.get_context("spawn")
    counters = context.RawArray("q", SLOTS * options.workers)
    hungry = context.RawValue("b", 0)
    pipes: list[connection.Connection] = []
    processes = []
    try:
        for number in range(options.workers):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=walk_process,
                args=(number, theirs, counters, hungry, scan_dir, options),
                name=f"datamgr-walk-{number}",
                daemon=True,
            )
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        with mounts.held(roots):
            dispatcher = _Dispatcher(pipes, root_frames(roots), hungry)
            errors = dispatcher.run(lambda: on_progress(_sum(counters)))
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.kill()
            process.join()
            process.close()
        for pipe in pipes:
            pipe.close()
    seen = _sum(counters)
    return WalkResult(seen.entries, seen.directories, errors)


def root_frames(roots: Iterable[bytes]) -> list[Frame]:
    """The frames above the roots.

    Raises:
        UnavailableError: a root vanished.
    """
    try:
        return [root_frame(root) for root in roots]
    except OSError as error:
        shown = os.fsdecode(error.filename)
        raise UnavailableError(f"{shown} cannot be read: {error.strerror}") from error


def _sum(counters: Any) -> Progress:
    return Progress(*(sum(counters[slot::SLOTS]) for slot in (ENTRIES, DIRECTORIES, ERRORS)))


class _Dispatcher:
    """Shares the directories out: gives to idle processes what busy ones hand over."""

    def __init__(
        self, pipes: list[connection.Connection], frames: list[Frame], hungry: Any
    ) -> None:
        self._pipes = pipes
        self._frames = frames
        self._hungry = hungry
        self._idle: list[connection.Connection] = []

    def run(self, on_progress: Callable[[], None]) -> dict[str, int]:
        """Serve the processes until all are idle and nothing is left; returns errors by reason."""
        due = time.monotonic()
        while len(self._idle) < len(self._pipes) or self._frames:
            for pipe in connection.wait(self._pipes, PROGRESS_INTERVAL_S):
                self._receive(cast(connection.Connection, pipe))
            while self._idle and self._frames:
                _tell(self._idle.pop(), self._frames.pop())
            self._hungry.value = bool(self._idle)
            if time.monotonic() >= due:
                on_progress()
                due = time.monotonic() + PROGRESS_INTERVAL_S
        errors: dict[str, int] = {}
        for pipe in self._pipes:
            _tell(pipe, None)
            for reason, number in _answer(pipe).items():
                errors[reason] = errors.get(reason, 0) + number
        on_progress()
        return errors

    def _receive(self, pipe: connection.Connection) -> None:
        message = _answer(pipe)
        if message is None:
            self._idle.append(pipe)
        else:
            self._frames.append(message)


def _tell(pipe: connection.Connection, message: Frame | None) -> None:
    """Give a process work, or None for the end.

    Raises:
        UnavailableError: it failed or was killed.
    """
    try:
        pipe.send(message)
    except BrokenPipeError as error:
        raise UnavailableError(_KILLED) from error


def _answer(pipe: connection.Connection) -> Any:
    """The next message of a process: None when idle, a Frame to share, or errors at the end.

    Raises:
        UnavailableError: it failed or was killed.
    """
    try:
        message = pipe.recv()
    except (EOFError, ConnectionResetError) as error:
        raise UnavailableError(_KILLED) from error
    if isinstance(message, Exception):
        raise message
    return message
