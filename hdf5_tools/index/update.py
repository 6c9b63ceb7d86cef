"""Files into an index: found, compared with what is known, harvested, published in one step each.

Killed at any time, an index has the segments that were published, whole.
"""

import os
import queue
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from datamgr.errors import NotFoundError
from hdf5_tools.harvest.records import FileRecord
from hdf5_tools.harvest.sandbox import Sandbox
from hdf5_tools.index import compact, container, manifest
from hdf5_tools.index.assemble import assemble
from hdf5_tools.index.columns import Builder, Columns, FileStamp
from hdf5_tools.index.manifest import Entry, Manifest
from hdf5_tools.index.segment import Segment

PATTERNS = ("*.h5", "*.hdf5", "*.hdf", "*.he5", "*.nxs", "*.nx", "*.nc", "*.nc4", "*.cxi")
# A segment is published when it has so many attributes, and put together with others up to that.
SEGMENT_ATTRIBUTES = 4_000_000
_MOST_SEGMENTS = 8
_AHEAD = 64  # files under way for each worker


@dataclass
class Done:
    """What was done so far. `failed`: of those that were read, the ones that gave nothing."""

    found: int = 0
    read: int = 0
    failed: int = 0
    unchanged: int = 0
    removed: int = 0
    attributes: int = 0
    not_walked: list[tuple[bytes, str]] = field(default_factory=list)


def update(
    folder: Path,
    paths: Iterable[bytes],
    *,
    only_changed: bool = False,
    patterns: Iterable[str] = PATTERNS,
    workers: int = 1,
    on_progress: Callable[[Done], None] = lambda done: None,
) -> Done:
    """Harvest the files below the paths; files of the index that are gone from there are taken out.

    `only_changed`: files of the same device, inode, size and time are not read again.

    Raises:
        NotFoundError: one of the paths does not exist.
        ConflictError, InvalidError: the folder cannot be written as an index.
    """
    roots = [os.path.abspath(path) for path in paths]
    for root in roots:
        if not os.path.lexists(root):
            raise NotFoundError(f"there is no {os.fsdecode(root)!r}")
    done = Done()
    with manifest.locked(folder) as listed:
        known = _known(folder, listed)
        seen: set[bytes] = set()
        publisher = _Publisher(folder, listed, known)
        changed = _changed(roots, tuple(patterns), known if only_changed else {}, seen, done)
        for stamp, record in _harvested(changed, workers):
            done.read += 1
            done.failed += record.reason is not None
            done.attributes += sum(len(found.attributes) for found in record.objects)
            publisher.add(stamp, record)
            on_progress(done)
        unsure = [path for path, _ in done.not_walked]
        gone = [path for path in known if path not in seen and _is_below(path, roots, unsure)]
        done.removed = len(gone)
        publisher.publish(gone)
        publisher.compact(_MOST_SEGMENTS)
    return done


def compact_index(folder: Path) -> None:
    """Put segments together and leave out what is dead."""
    manifest.load(folder)
    with manifest.locked(folder) as listed:
        _Publisher(folder, listed, {}).compact(1)


@dataclass(frozen=True)
class _Known:
    stamp: FileStamp
    segment: str
    number: int


def _known(folder: Path, listed: Manifest) -> dict[bytes, _Known]:
    known = {}
    for entry in listed.entries:
        segment = _open(folder, entry)
        stamps = segment.arrays["file_stamp"].reshape(-1, 4).view(np.uint64)
        for number in np.flatnonzero(segment.files_alive).tolist():
            path = segment.files[number]
            device, inode, size, mtime_ns = stamps[number].tolist()
            stamp = FileStamp(path, device, inode, size, mtime_ns)
            known[path] = _Known(stamp, entry.segment, number)
    return known


def _open(folder: Path, entry: Entry) -> Segment:
    dead = None if entry.dead is None else np.load(folder / entry.dead)
    return Segment(folder / entry.segment, dead)


def _changed(
    roots: list[bytes],
    patterns: tuple[str, ...],
    known: dict[bytes, _Known],
    seen: set[bytes],
    done: Done,
) -> Iterator[FileStamp]:
    for path in _walk(roots, patterns, done):
        if path in seen:
            continue
        try:
            status = os.stat(path)
        except OSError as error:
            done.not_walked.append((path, str(error.strerror)))
            continue
        if not stat.S_ISREG(status.st_mode):
            continue
        seen.add(path)
        done.found += 1
        stamp = FileStamp(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if path in known and known[path].stamp == stamp:
            done.unchanged += 1
        else:
            yield stamp


def _walk(roots: list[bytes], patterns: tuple[str, ...], done: Done) -> Iterator[bytes]:
    """Files that are named, and below directories those that fit a pattern; links not followed."""

    def failed(error: OSError) -> None:
        done.not_walked.append((os.fsencode(error.filename), str(error.strerror)))

    for root in roots:
        if not os.path.isdir(root):
            yield root
            continue
        for above, directories, files in os.walk(root, onerror=failed):
            directories.sort()
            for name in sorted(files):
                path = os.path.join(above, name)
                text = os.fsdecode(name).lower()
                if any(fnmatchcase(text, p) for p in patterns) and not os.path.islink(path):
                    yield path


def _is_below(path: bytes, roots: list[bytes], unsure: list[bytes]) -> bool:
    def within(folders: list[bytes]) -> bool:
        return any(path == f or path.startswith(f.rstrip(b"/") + b"/") for f in folders)

    return within(roots) and not within(unsure)


def _harvested(stamps: Iterator[FileStamp], workers: int) -> Iterator[tuple[FileStamp, FileRecord]]:
    """The records in the order of the files, several at a time."""
    idle: queue.SimpleQueue[Sandbox] = queue.SimpleQueue()
    sandboxes = [Sandbox() for _ in range(workers)]
    for sandbox in sandboxes:
        idle.put(sandbox)
    stopping = threading.Event()

    def harvest(stamp: FileStamp) -> FileRecord:
        sandbox = idle.get()
        try:
            return FileRecord([], "stopped") if stopping.is_set() else sandbox.harvest(stamp.path)
        finally:
            idle.put(sandbox)

    pending: list[tuple[FileStamp, Future[FileRecord]]] = []
    with ThreadPoolExecutor(workers, "harvest") as pool:
        try:
            for stamp in stamps:
                pending.append((stamp, pool.submit(harvest, stamp)))
                if len(pending) >= _AHEAD * workers:
                    first, record = pending.pop(0)
                    yield first, record.result()
            for stamp, record in pending:
                yield stamp, record.result()
        finally:
            stopping.set()
            pool.shutdown(cancel_futures=True)
            for sandbox in sandboxes:
                sandbox.close()


class _Publisher:
    """Makes segments of records, and lets each count by one replacement of the manifest."""

    def __init__(self, folder: Path, listed: Manifest, known: dict[bytes, _Known]) -> None:
        self._folder = folder
        self._listed = listed
        self._known = known
        self._builder = Builder()

    def add(self, stamp: FileStamp, record: FileRecord) -> None:
        self._builder.add(stamp, record)
        if len(self._builder.attribute_object) >= SEGMENT_ATTRIBUTES:
            self.publish([])

    def publish(self, gone: list[bytes]) -> None:
        """Let the records count instead of what was known of their files, and `gone` no more."""
        files = self._builder.files
        replaced: dict[str, list[int]] = {}
        for path in [*gone, *(stamp.path for stamp in files)]:
            old = self._known.pop(path, None)
            if old is not None:
                replaced.setdefault(old.segment, []).append(old.number)
        if not files and not replaced:
            return
        listed = self._listed
        for entry in listed.entries:
            if entry.segment in replaced:
                listed = self._killed(listed, entry, replaced[entry.segment])
        if files:
            listed = self._written(listed, self._builder.columns())
        self._builder = Builder()
        self._store(listed)

    def compact(self, most: int) -> None:
        """Put small segments together until there are few, and large ones with much that is dead
        too."""
        entries = self._listed.entries
        if len(entries) <= most and all(entry.dead is None for entry in entries if most == 1):
            return
        small = [e for e in entries if e.attributes < SEGMENT_ATTRIBUTES // 2 or e.dead is not None]
        parts: list[Columns] = []
        listed = replace(self._listed, entries=tuple(e for e in entries if e not in small))
        for entry in small:
            parts.append(compact.columns_of(_open(self._folder, entry)))
            if sum(part.attributes for part in parts) >= SEGMENT_ATTRIBUTES:
                listed, parts = self._written(listed, Columns.concatenated(parts)), []
        if parts:
            listed = self._written(listed, Columns.concatenated(parts))
        self._store(listed)

    def _killed(self, listed: Manifest, entry: Entry, numbers: list[int]) -> Manifest:
        dead = np.array(numbers, np.int64)
        if entry.dead is not None:
            dead = np.union1d(dead, np.load(self._folder / entry.dead))
        listed, name = manifest.numbered(listed, "dead")
        with (self._folder / name).open("xb") as file:
            np.save(file, dead)
            os.fsync(file.fileno())
        entries = [replace(e, dead=name) if e is entry else e for e in listed.entries]
        return replace(listed, entries=tuple(entries))

    def _written(self, listed: Manifest, columns: Columns) -> Manifest:
        if not len(columns.file_path):
            return listed
        listed, name = manifest.numbered(listed, "segment")
        container.write(self._folder / name, assemble(columns))
        entry = Entry(
            name, None, len(columns.file_path), len(columns.object_file), columns.attributes
        )
        return replace(listed, entries=(*listed.entries, entry))

    def _store(self, listed: Manifest) -> None:
        manifest.store(self._folder, listed)
        self._listed = listed
        manifest.clean(self._folder, listed)
