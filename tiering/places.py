"""Which managed root a path of the command line lies in, and what it is called there."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from datamgr import display
from datamgr.errors import InvalidError, NotFoundError


@dataclass(frozen=True)
class Place:
    """A managed root as a client knows it."""

    name: str
    path: bytes


def sort_by_root(
    roots: Sequence[Place], paths: Iterable[bytes]
) -> dict[Place, list[tuple[bytes, bytes]]]:
    """By root: each path as it was given, and relative to the root.

    Symbolic links on the way are followed with the rights of this account, the last part is not.

    Raises:
        InvalidError: a path is in no managed root.
    """
    found: dict[Place, list[tuple[bytes, bytes]]] = {}
    real: dict[bytes, bytes] = {}
    for path in paths:
        if not path or b"\0" in path:
            raise InvalidError(f"{display.printable(path)!r} is no path")
        folder, name = os.path.split(os.path.abspath(path))
        if folder not in real:
            real[folder] = os.path.realpath(folder)
        whole = os.path.join(real[folder], name)
        place = _of(roots, whole)
        relative = b"." if whole == place.path else os.path.relpath(whole, place.path)
        found.setdefault(place, []).append((path, relative))
    return found


def _of(roots: Sequence[Place], path: bytes) -> Place:
    for place in sorted(roots, key=lambda p: len(p.path), reverse=True):
        if path == place.path or path.startswith(place.path.rstrip(b"/") + b"/"):
            return place
    if not roots:
        raise NotFoundError("no directory is managed here")
    known = ", ".join(display.printable(place.path) for place in roots)
    raise InvalidError(f"{display.printable(path)} is in no managed directory; those are {known}")
