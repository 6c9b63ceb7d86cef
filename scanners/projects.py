"""Which project each part of a scan belongs to."""

import os
from collections.abc import Sequence

from ibis.expr import types as ir

from datamgr.catalog import Project
from scanners.engines import Engine
from scanners.paths import display_name, is_below
from scanners.rollup import NO_PROJECT, ScanProject

OUTSIDE = "(no project)"


def of_scan(
    registered: Sequence[Project], roots: Sequence[bytes], engine: Engine, dirs: ir.Table
) -> list[ScanProject]:
    """The projects of a scan, with an entry for every root.

    Registered projects if any lies in the scan or around it; without them each directory
    directly below a root is a project.
    """
    inside = [p for p in registered if any(is_below(p.path, root) for root in roots)]
    around = {root: _nearest_around(root, registered) for root in roots}
    if not inside and not any(around.values()):
        return _top_level(roots, engine, dirs)
    numbers: dict[int, int] = {}
    for project in (*inside, *(p for p in around.values() if p is not None)):
        numbers.setdefault(project.id, len(numbers) + 1)
    found = [ScanProject(numbers[p.id], p.name, p.path, p.id) for p in inside]
    named = {p.path for p in inside}
    for root, project_ in around.items():
        if root in named:
            continue
        if project_ is None:
            found.append(ScanProject(NO_PROJECT, OUTSIDE, root))
        else:
            found.append(ScanProject(numbers[project_.id], project_.name, root, project_.id))
    return found


def _top_level(roots: Sequence[bytes], engine: Engine, dirs: ir.Table) -> list[ScanProject]:
    top = dirs.filter(dirs.depth == 1).select("path").order_by("path")
    paths = [path for batch in engine.batches(top) for path in batch.column("path").to_pylist()]
    names = [display_name(os.path.basename(path)) for path in paths]
    if len({OUTSIDE, *names}) <= len(names):  # of several roots, or named like OUTSIDE
        names = [display_name(path) for path in paths]
    outside = [ScanProject(NO_PROJECT, OUTSIDE, root) for root in roots]
    numbered = enumerate(zip(names, paths, strict=True), NO_PROJECT + 1)
    return outside + [ScanProject(number, name, path) for number, (name, path) in numbered]


def _nearest_around(root: bytes, registered: Sequence[Project]) -> Project | None:
    around = [p for p in registered if p.path != root and is_below(root, p.path)]
    return max(around, key=lambda p: len(p.path), default=None)
