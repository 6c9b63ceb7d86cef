"""Reads archived files back and compares them: what the archive has is what was put there."""

import hashlib
import os
from collections.abc import Iterable
from contextlib import ExitStack

from datamgr.errors import DatamgrError
from tiering import rows
from tiering.archive import reader
from tiering.archive.store import DamagedError
from tiering.held import in_archive_order
from tiering.root import ManagedRoot, Report
from tiering.walk import walk


def verify(
    root: ManagedRoot, paths: Iterable[bytes], report: Report, *, recursive: bool = False
) -> None:
    """Read all archived copies of files and compare their checksums; nothing is changed."""
    with ExitStack() as stack:
        copies = [stack.enter_context(reader.Members(copy)) for copy in root.store.copies]
        for path in in_archive_order(root, walk(root, paths, report, recursive=recursive)):
            try:
                report.done_bytes += _verify(root, path, copies)
                report.done += 1
            except (DatamgrError, OSError) as error:
                report.fail(path, error)
            report.watch()


def _verify(root: ManagedRoot, path: bytes, copies: list[reader.Members]) -> int:
    descriptor = root.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        identity = root.identity(descriptor, os.fstat(descriptor))
    finally:
        os.close(descriptor)
    with root.database.transaction(read_only=True) as session:
        known = rows.require(session, identity)
    for members in copies:
        digest = hashlib.sha256()
        for data in members.payload(known.key, known.offset_bytes, known.stored_bytes):
            digest.update(data)
        if digest.digest() != known.sha256:
            raise DamagedError(f"the container {known.key} is damaged: the checksum is wrong")
    return known.size_bytes
