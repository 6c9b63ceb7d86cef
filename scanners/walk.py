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

from datamgr.errors import NotFoundError, UnavailableError
from scanners.directory import Frame, root_frame
from scanners.walker import DIRECTORIES, ENTRIES, ERRORS, SLOTS, WalkOptions, walk_process

PROGRESS_INTERVAL_S = 0.2


@dataclass(frozen=True)
class Progress:
    """What was seen so far."""

    entries: int
    directories: int
    errors: int


@dataclass(frozen=True)
class WalkResult:
    """What was seen in all; `errors` counts by reason (see `record.REASONS`)."""

    entries: int
    directories: int
    errors: dict[str, int] = field(default_factory=dict)


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
        NotFoundError: a root vanished.
        UnavailableError: the disk is full, or a walking process was killed.
    """
    frames = [_root_frame(root) for root in roots]
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
        errors = _Dispatcher(pipes, frames, hungry).run(lambda: on_progress(_sum(counters)))
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


def _root_frame(root: bytes) -> Frame:
    try:
        return root_frame(root)
    except OSError as error:
        raise NotFoundError(f"{os.fsdecode(root)} vanished: {error.strerror}") from error


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
                self._idle.pop().send(self._frames.pop())
            self._hungry.value = bool(self._idle)
            if time.monotonic() >= due:
                on_progress()
                due = time.monotonic() + PROGRESS_INTERVAL_S
        errors: dict[str, int] = {}
        for pipe in self._pipes:
            pipe.send(None)
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


def _answer(pipe: connection.Connection) -> Any:
    """The next message of a process: None when idle, a Frame to share, or errors at the end.

    Raises:
        UnavailableError: it failed or was killed.
    """
    try:
        message = pipe.recv()
    except (EOFError, ConnectionResetError) as error:
        raise UnavailableError(
            "a walking process was killed; the machine may be out of memory"
        ) from error
    if isinstance(message, Exception):
        raise message
    return message
