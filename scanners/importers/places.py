"""Where the records of a list lie: their directories as keys, and their names.

The key of a directory is its path with NUL for each slash, and empty for `/`. Sorted by key a
directory comes right before everything below it, which by path it does not: `a-b` < `a/c`.
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from scanners.importers.fields import Unparsable

_SEPARATOR = b"\0"
# Empty parts, `.` and `..`. An expression for RE2, whose $ is the end and no newline.
_DOUBTFUL = r"/\.{0,2}(/|$)"
_NO_NAMES = pa.array([b"", b".", b".."])


@dataclass(frozen=True)
class Bounds:
    """What paths a list may hold.

    `prefix` is put in front of each; all must then lie in one of `roots`, if there are any.
    """

    prefix: bytes = b""
    roots: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Placed:
    """Directories that occur, once each, and for each file the number of its own among them."""

    directories: pa.Array
    numbers: pa.Array
    names: pa.Array


def key_of(path: bytes) -> bytes:
    """The key of a normalised absolute path."""
    return path.rstrip(b"/").replace(b"/", _SEPARATOR)


def path_of(key: bytes) -> bytes:
    """The path of a key."""
    return key.replace(_SEPARATOR, b"/") or b"/"


def paths_of(keys: pa.Array) -> pa.Array:
    """The paths of keys."""
    paths = pc.replace_substring(keys, _SEPARATOR, b"/")
    return pc.if_else(pc.equal(pc.binary_length(keys), 0), pa.scalar(b"/", pa.binary()), paths)


def files(paths: pa.Array, bounds: Bounds) -> Placed:
    """Split the paths of files; `//`, `/./` and the like are taken out where they occur.

    Raises:
        Unparsable: a path is not absolute, has `..` or NUL in it, or lies outside of the bounds.
    """
    if bounds.prefix:
        paths = _prefixed(paths, bounds.prefix)
    parents, names = _split(paths)
    directories = pc.dictionary_encode(parents)
    if _any(pc.is_in(names, _NO_NAMES)) or _any(
        pc.match_substring_regex(directories.dictionary, _DOUBTFUL)
    ):
        parents, names = _split(_normalised(paths))
        directories = pc.dictionary_encode(parents)
    if _any(pc.is_in(names, _NO_NAMES)):
        raise Unparsable("a file has no name")
    if _any(pc.match_substring(names, _SEPARATOR)):
        raise Unparsable("a name holds NUL")
    return Placed(_keys(directories.dictionary, bounds), directories.indices, names)


def directories(paths: pa.Array, bounds: Bounds) -> pa.Array:
    """The keys of directories, as `files`.

    Raises:
        Unparsable: as `files`.
    """
    if bounds.prefix:
        paths = _prefixed(paths, bounds.prefix)
    return _keys(_normalised(paths), bounds)


def _prefixed(paths: pa.Array, prefix: bytes) -> pa.Array:
    return pc.binary_join_element_wise(pa.scalar(prefix, pa.binary()), paths, b"/")


def _split(paths: pa.Array) -> tuple[pa.Array, pa.Array]:
    parts = pc.split_pattern(paths, b"/", max_splits=1, reverse=True).flatten()
    if len(parts) != 2 * len(paths):
        raise Unparsable("a path is not absolute")
    pairs = pa.FixedSizeListArray.from_arrays(parts, 2)
    return pc.list_element(pairs, 0), pc.list_element(pairs, 1)


def _normalised(paths: pa.Array) -> pa.Array:
    """Without empty parts and `.`, and without a slash at the end, not even that of `/`."""
    if not _any(pc.match_substring_regex(paths, _DOUBTFUL)):
        return paths
    once = pc.replace_substring_regex(paths, r"/(\.?/)+", "/")
    return pc.replace_substring_regex(once, r"/\.?$", "")


def _keys(paths: pa.Array, bounds: Bounds) -> pa.Array:
    if _any(pc.match_substring(paths, _SEPARATOR)):
        raise Unparsable("a path holds NUL")
    if _any(pc.match_substring_regex(paths, r"/\.\.(/|$)")):
        raise Unparsable("a path holds `..`")
    empty = pc.equal(pc.binary_length(paths), 0)
    if not pc.all(pc.or_(pc.starts_with(paths, b"/"), empty)).as_py() and len(paths):
        raise Unparsable("a path is not absolute; say by --prefix what belongs in front of it")
    keys = pc.replace_substring(paths, b"/", _SEPARATOR)
    if bounds.roots:
        ended = pc.binary_join_element_wise(keys, pa.scalar(b"", pa.binary()), _SEPARATOR)
        inside = [pc.starts_with(ended, key_of(root) + _SEPARATOR) for root in bounds.roots]
        for other in inside[1:]:
            inside[0] = pc.or_(inside[0], other)
        if not pc.all(inside[0]).as_py() and len(keys):
            raise Unparsable("a path lies outside of --root")
    return keys


def _any(mask: pa.Array) -> bool:
    return bool(pc.any(mask).as_py())
