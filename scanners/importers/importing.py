"""Import a list into the datasets of a scan: parse, number the directories, sort the files.

Memory is flat: pieces of the list are parsed by processes into Parquet files (`parse`), and
DuckDB sorts and joins these out of core (`tree`, `entries`).
"""

import functools
import multiprocessing
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import InvalidError, UnavailableError
from scanners import scan
from scanners.importers import engine, entries, formats, parse, pieces, tree
from scanners.importers.errors import Errors
from scanners.importers.pieces import Piece
from scanners.importers.places import Bounds
from scanners.importers.source import ListSource
from scanners.walk import Progress, WalkResult, default_workers

_SCRATCH = "scratch"
_PIECES_IN_WORK = 10


@dataclass(frozen=True)
class ImportRequest:
    """What to import and under which name; `taken_at` is when the list was begun, if known."""

    filesystem: str
    source: ListSource
    taken_at: datetime | None = None
    workers: int = 0


def run(
    settings: Settings,
    database: Database,
    request: ImportRequest,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_step: Callable[[str], None] = lambda _: None,
) -> int:
    """Import a list as a scan and publish it; returns the scan's number.

    Until the last commit the earlier scan stays current, whatever happens.

    Raises:
        NotFoundError: a file does not exist.
        InvalidError: the source is contradictory, the list is cut short, empty or has too many
            lines that cannot be read.
        ConflictError: a scan of this file system is running.
        UnavailableError: disk full, out of memory, or the database went away.
    """
    source = request.source.checked()

    def fill_(directory: Path) -> WalkResult:
        return fill(
            source,
            directory,
            max_depth=settings.scan.max_depth,
            workers=request.workers or settings.scan.workers,
            memory=settings.scan.engine_memory,
            on_progress=on_progress,
        )

    filling = scan.Filling(
        request.filesystem,
        source.format,
        "import",
        source.roots,
        "unknown",
        fill_,
        request.taken_at or source.taken_at(),
    )
    return scan.fill_and_publish(settings, database, filling, on_step)


def fill(
    source: ListSource,
    scan_dir: Path,
    *,
    max_depth: int = 1000,
    workers: int = 0,
    memory: str | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> WalkResult:
    """Write the datasets of a scan from a checked source.

    Raises:
        NotFoundError: a file does not exist.
        InvalidError: a file is cut short or holds more than `max_bad` unreadable lines, or there
            is nothing in the list.
        UnavailableError: the disk is full, memory is short, or a process was killed.
    """
    scratch = scan_dir / _SCRATCH
    try:
        scratch.mkdir()
        errors = Errors(scan_dir)
        _parse(source, scratch, workers, errors, on_progress)
        with engine.opened(scratch, memory) as connection:
            engine.attach(connection, scratch)
            found = tree.write(connection, scratch, scan_dir, source, errors, max_depth)
            files = entries.write(connection, scratch, scan_dir, errors)
        errors.close()
        shutil.rmtree(scratch)
    except OSError as error:
        raise UnavailableError(f"the import cannot write {scratch}: {error}") from error
    return WalkResult(files, found.directories, errors.counts, found.roots)


def _parse(
    source: ListSource,
    scratch: Path,
    workers: int,
    errors: Errors,
    on_progress: Callable[[Progress], None],
) -> None:
    """Have the pieces parsed, and judge what was unreadable in the order of the list."""
    list_format = formats.by_name(source.format, source.columns)
    bounds = Bounds(source.prefix, source.roots)
    work = functools.partial(parse.parse, list_format=list_format, bounds=bounds, directory=scratch)
    files = directories = line = bad = 0
    with _processes(workers or default_workers()) as executor:
        for piece, parsed in _in_order(executor, pieces.cut(source.files, list_format), work):
            if piece.first_line is not None:
                line = piece.first_line
            for record in parsed.bad:
                bad += record.lines
                where = f"{pieces.shown(piece.file)}, line {line + record.line + 1}"
                if bad > source.max_bad:
                    raise InvalidError(_refusal(source, where, record))
                message = f"{record.reason}: {record.text}"
                errors.add(os.fsencode(where), "unparsable", message)
            line += parsed.lines
            files, directories = files + parsed.files, directories + parsed.directories
            on_progress(Progress(files, directories, bad))


def _refusal(source: ListSource, where: str, record: parse.Bad) -> str:
    if source.max_bad:
        return (
            f"more than {source.max_bad} lines cannot be read; the next is {where}: "
            f"{record.reason}: {record.text}"
        )
    return f"{where} cannot be read: {record.reason}: {record.text}"


@contextmanager
def _processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    # Spawned, not forked: the caller may hold threads, locks and database connections.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=parse.begin_process)
    try:
        yield executor
    except BrokenProcessPool as error:
        raise UnavailableError(
            "an importing process was killed; the machine may be out of memory"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _in_order(
    executor: ProcessPoolExecutor, cut: Iterator[Piece], work: Callable[[Piece], parse.Parsed]
) -> Iterator[tuple[Piece, parse.Parsed]]:
    """Each piece with its result; only a few at a time, because some hold their text."""
    waiting: deque[tuple[Piece, Future[parse.Parsed]]] = deque()
    for piece in cut:
        waiting.append((replace(piece, text=None), executor.submit(work, piece)))
        if len(waiting) > _PIECES_IN_WORK:
            first, future = waiting.popleft()
            yield first, future.result()
    for first, future in waiting:
        yield first, future.result()
