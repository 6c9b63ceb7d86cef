"""Whole managed roots put, punched and staged, every file of which has to go well."""

import os
import stat

from tiering.archive.segments import SegmentedStore
from tiering.archive.store import Store
from tiering.archive.zst import ZstdStore
from tiering.punch import punch
from tiering.root import ManagedRoot, Report
from tiering.stage import stage


def files(root: ManagedRoot) -> list[bytes]:
    """One name of every file."""
    start = os.fsencode(root.settings.root)
    found = {}
    for folder, _, names in os.walk(start):
        for name in names:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                found[status.st_ino] = os.path.relpath(path, start)
    return list(found.values())


def succeeded(report: Report) -> Report:
    assert [(f.path, f.reason) for f in report.failures] == []
    return report


def punched(root: ManagedRoot, *, guarded: bool = False) -> Report:
    return succeeded(punch(root, files(root), guarded=guarded))


def staged(root: ManagedRoot) -> Report:
    return succeeded(stage(root, files(root)))


def inner_store(root: ManagedRoot) -> Store:
    """The store itself, below what compresses and what cuts into segments."""
    assert isinstance(root.store, ZstdStore)
    assert isinstance(root.store.inner, SegmentedStore)
    return root.store.inner.inner
