"""Reads archived files back and compares them: what the archive has is what was put there."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice

from datamgr.errors import DatamgrError
from tiering import rows
from tiering.archive import reader
from tiering.archive.store import DamagedError
from tiering.held import in_archive_order
from tiering.kernel import Identity
from tiering.root import ManagedRoot, Report
from tiering.rows import Archived
from tiering.walk import walk

_BATCH = 1000  # files that the database is asked for at once


def verify(
    root: ManagedRoot, paths: Iterable[bytes], report: Report, *, recursive: bool = False
) -> None:
    """Read all archived copies of files and compare their checksums; nothing is changed."""
    with ExitStack() as stack:
        copies = [stack.enter_context(reader.Members(copy)) for copy in root.store.copies]
        left = in_archive_order(root, walk(root, paths, report, recursive=recursive))
        while batch := list(islice(left, _BATCH)):
            for path, known in _archived(root, batch, report):
                try:
                    _compare(known, copies)
                except (DatamgrError, OSError) as error:
                    report.fail(path, error)
                else:
                    report.done += 1
                    report.done_bytes += known.size_bytes
                report.watch()


def _archived(
    root: ManagedRoot, paths: list[bytes], report: Report
) -> Iterator[tuple[bytes, Archived]]:
    identities: dict[bytes, Identity] = {}
    for path in paths:
        try:
            identities[path] = _identity(root, path)
        except (DatamgrError, OSError) as error:
            report.fail(path, error)
    with root.database.transaction(read_only=True) as session:
        known = rows.archived(session, list(identities.values()))
    for path, identity in identities.items():
        if identity in known:
            yield path, known[identity]
        else:
            report.fail(path, "it is not in the archive; put it there first")


def _identity(root: ManagedRoot, path: bytes) -> Identity:
    descriptor = root.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return root.identity(descriptor, os.fstat(descriptor))
    finally:
        os.close(descriptor)


def _compare(known: Archived, copies: list[reader.Members]) -> None:
    for members in copies:
        digest = hashlib.sha256()
        for data in members.payload(known.key, known.offset_bytes, known.stored_bytes):
            digest.update(data)
        if digest.digest() != known.sha256:
            raise DamagedError(f"the container {known.key} is damaged: the checksum is wrong")
