"""Files into an index: found, compared with what is known, harvested, published in one step each.

Killed at any time, an index has the segments that were published, whole.
"""

import io
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from datamgr.errors import NotFoundError
from hdf5_tools.harvest.records import FileRecord
from hdf5_tools.harvest.sandbox import Sandbox
from hdf5_tools.index import compact, container, manifest, walk
from hdf5_tools.index.assemble import assemble
from hdf5_tools.index.builder import Builder, FileStamp
from hdf5_tools.index.columns import Columns
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
    listed: Iterable[bytes] | None = None,
    workers: int = 1,
    on_progress: Callable[[Done], None] = lambda done: None,
) -> Done:
    """Harvest the files below the paths; files of the index that are gone from there are taken out.

    `only_changed`: files of the same device, inode, size and time are not read again, unless what
    kept them from being read may have passed. `listed`: absolute paths of what there is, instead
    of a walk. A path that does not exist is one that is gone, or else, if the index has nothing
    below it, is named in `not_walked`; so is one that cannot be looked at, where nothing is gone.

    Raises:
        NotFoundError: none of the paths exists, nor did before.
        ConflictError, InvalidError: the folder cannot be written as an index.
    """
    roots = [os.path.abspath(path) for path in paths]
    reasons = {root: reason for root in roots if (reason := _absence(root)) is not None}
    missing = [root for root in roots if isinstance(reasons.get(root), FileNotFoundError)]
    if missing == roots and not (folder / manifest.NAME).exists():
        raise NotFoundError(f"there is no {os.fsdecode(roots[0])!r}")
    done = Done()
    with manifest.locked(folder) as entries:
        known = _known(folder, entries)
        unknown = [root for root in missing if not any(walk.is_below(p, {root}) for p in known)]
        if unknown and unknown == roots:
            raise NotFoundError(f"there is no {os.fsdecode(roots[0])!r}")
        seen: set[bytes] = set()
        publisher = _Publisher(folder, entries, known)
        existing = [root for root in roots if root not in reasons]
        if listed is None:
            found = walk.walk(existing, tuple(patterns), done.not_walked)
        else:
            found = walk.chosen(listed, existing, tuple(patterns))
        changed = _changed(found, known if only_changed else {}, seen, done)
        with ExitStack() as stack:
            sandboxes = [stack.enter_context(Sandbox()) for _ in range(workers)]
            for stamp, record in harvested(changed, sandboxes):
                done.read += 1
                done.failed += record.reason is not None
                done.attributes += sum(len(found.attributes) for found in record.objects)
                publisher.add(_of_no_file(stamp) if record.may_pass else stamp, record)
                on_progress(done)
        done.not_walked += [
            (root, str(reason.strerror)) for root, reason in reasons.items() if root not in missing
        ]
        within, unsure = set(roots), {path for path, _ in done.not_walked}
        done.not_walked += [(root, str(reasons[root].strerror)) for root in unknown]
        done.not_walked += [(root, "it is no regular file") for root in existing if _is_odd(root)]
        gone = [
            path
            for path in known
            if path not in seen and walk.is_below(path, within) and not walk.is_below(path, unsure)
        ]
        done.removed = len(gone)
        publisher.publish(gone)
        publisher.compact()
    return done


def _absence(path: bytes) -> OSError | None:
    """Why a path cannot be looked at: FileNotFoundError if it is not there."""
    try:
        os.lstat(path)
    except NotADirectoryError as error:
        return FileNotFoundError(error.errno, error.strerror)
    except OSError as error:
        return error
    return None


def _is_odd(path: bytes) -> bool:
    """Whether there is something that is neither a file nor a directory, as a pipe."""
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


def _of_no_file(stamp: FileStamp) -> FileStamp:
    """A stamp that differs from every file's, so that the file is read the next time."""
    return FileStamp(stamp.path, 0, 0, 0, 0)


def compact_index(folder: Path) -> None:
    """Put segments together and leave out what is dead."""
    manifest.load(folder)
    with manifest.locked(folder) as listed:
        _Publisher(folder, listed, {}).compact(everything=True)


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
    try:
        return Segment.of(folder, entry)
    except FileNotFoundError as error:  # while nobody else changes the index
        raise container.damaged(Path(error.filename), "is missing") from error


def _changed(
    found: Iterator[bytes], known: dict[bytes, _Known], seen: set[bytes], done: Done
) -> Iterator[FileStamp]:
    for path in found:
        if path in seen:
            continue
        try:
            status = os.stat(path)
        except FileNotFoundError:
            continue  # gone since
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


def harvested(
    stamps: Iterable[FileStamp], sandboxes: list[Sandbox]
) -> Iterator[tuple[FileStamp, FileRecord]]:
    """The records in the order of the files, each with several files under way."""
    pending: deque[tuple[FileStamp, Sandbox]] = deque()
    for stamp in stamps:
        if len(sandboxes) > 1:
            for sandbox in sandboxes:
                sandbox.collect()
        # The one that has least to do.
        chosen = min(sandboxes, key=lambda sandbox: sandbox.unanswered)
        while len(pending) >= _AHEAD * len(sandboxes) or not chosen.has_room(stamp.path):
            first, sandbox = pending.popleft()
            yield first, sandbox.answer()
        chosen.ask(stamp.path)
        pending.append((stamp, chosen))
    for first, sandbox in pending:
        yield first, sandbox.answer()


def _is_small(entry: Entry) -> bool:
    return entry.attributes < SEGMENT_ATTRIBUTES // 2


class _Publisher:
    """Makes segments of records, and lets each count by one replacement of the manifest."""

    def __init__(self, folder: Path, listed: Manifest, known: dict[bytes, _Known]) -> None:
        self._folder = folder
        self._listed = listed
        self._known = known
        self._builder = Builder()

    def add(self, stamp: FileStamp, record: FileRecord) -> None:
        self._builder.add(stamp, record)
        if self._builder.attributes >= SEGMENT_ATTRIBUTES:
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

    def compact(self, *, everything: bool = False) -> None:
        """Put small segments together when there are many, and clear those of mostly dead files.

        `everything`: put all small ones together, and leave nothing dead.
        """
        entries = self._listed.entries
        if everything:
            chosen = [entry for entry in entries if entry.dead_files or _is_small(entry)]
            if len(chosen) == 1 and not chosen[0].dead_files:
                return
        else:
            many = len(entries) > _MOST_SEGMENTS
            chosen = [e for e in entries if 2 * e.dead_files > e.files or (many and _is_small(e))]
        if not chosen:
            return
        listed = replace(self._listed, entries=tuple(e for e in entries if e not in chosen))
        parts: list[Columns] = []
        for entry in chosen:
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
        saved = io.BytesIO()  # to a file on a full disk numpy says nothing of a reason
        np.save(saved, dead)
        with (self._folder / name).open("xb") as file:
            file.write(saved.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        now = replace(entry, dead=name, dead_files=len(dead))
        return replace(listed, entries=tuple(now if e is entry else e for e in listed.entries))

    def _written(self, listed: Manifest, columns: Columns) -> Manifest:
        if not len(columns.file_path):
            return listed
        listed, name = manifest.numbered(listed, "segment")
        container.write(self._folder / name, assemble(columns))
        files, objects = len(columns.file_path), len(columns.object_file)
        entry = Entry(name, files, objects, columns.attributes)
        return replace(listed, entries=(*listed.entries, entry))

    def _store(self, listed: Manifest) -> None:
        manifest.store(self._folder, listed)
        self._listed = listed
        manifest.clean(self._folder, listed)
