"""Where a night's figures of a file system come from: a walk of its paths, or a list."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from datamgr import display
from datamgr.config import Settings
from datamgr.config_nightly import NightlyFileSystem
from datamgr.db import Database
from scanners import scan
from scanners.walk import Progress


@dataclass(frozen=True)
class Source:
    """What is to be done, in words, and the function that does it.

    `run` is given whom to tell of progress and of steps, and returns the number of the scan.
    """

    shown: str
    run: Callable[[Callable[[Progress], None], Callable[[str], None]], int]


def source_of(settings: Settings, database: Database, filesystem: NightlyFileSystem) -> Source:
    """The source of a configured file system, with its paths checked.

    Raises:
        NotFoundError, InvalidError: as `scan.checked_roots`, or the list's format is none.
    """
    paths = [os.fsencode(path) for path in filesystem.paths]
    if filesystem.import_:
        return _list(settings, database, filesystem, tuple(paths))
    request = scan.ScanRequest(
        filesystem.name, scan.checked_roots(paths), filesystem.workers, filesystem.cross_mounts
    )
    shown = ", ".join(map(display.printable, request.roots))
    return Source(f"scan {shown}", partial(scan.run, settings, database, request))


def _list(
    settings: Settings,
    database: Database,
    filesystem: NightlyFileSystem,
    roots: tuple[bytes, ...],
) -> Source:
    # Imported here: what only walks does without it.
    from scanners.importers import importing
    from scanners.importers.source import ListSource

    source = ListSource(
        tuple(map(str, filesystem.import_)),
        filesystem.from_ or "",
        filesystem.columns,
        roots,
        os.fsencode(filesystem.prefix),
        modes_decide=filesystem.modes_decide,
    ).checked()
    request = importing.ImportRequest(filesystem.name, source, workers=filesystem.workers)
    shown = ", ".join(map(display.printable, source.files))
    return Source(f"import {shown}", partial(importing.run, settings, database, request))
