"""Which files below some paths are to be indexed: those that a walk meets, or of a list."""

import os
from collections.abc import Collection, Iterable, Iterator
from fnmatch import fnmatchcase


def walk(
    roots: list[bytes], patterns: tuple[str, ...], not_walked: list[tuple[bytes, str]]
) -> Iterator[bytes]:
    """Files that are named, and below directories those that fit a pattern; links not followed.

    Directories that cannot be listed are added to `not_walked`, with the reason.
    """

    def failed(error: OSError) -> None:
        not_walked.append((os.fsencode(error.filename), str(error.strerror)))

    for root in roots:
        if not os.path.isdir(root):
            yield root
            continue
        for above, directories, files in os.walk(root, onerror=failed):
            directories.sort()
            for name in sorted(files):
                path = os.path.join(above, name)
                if _fits(name, patterns) and not os.path.islink(path):
                    yield path


def chosen(
    listed: Iterable[bytes], roots: list[bytes], patterns: tuple[str, ...]
) -> Iterator[bytes]:
    """What a walk would find, of a list."""
    named = set(roots)
    for path in listed:
        if path in named or (_fits(os.path.basename(path), patterns) and is_below(path, named)):
            yield path


def is_below(path: bytes, folders: Collection[bytes]) -> bool:
    """Whether it is one of these (a set, for many) or in one of them."""
    while path not in folders:
        above = os.path.dirname(path)
        if above == path:
            return False
        path = above
    return True


def _fits(name: bytes, patterns: tuple[str, ...]) -> bool:
    text = os.fsdecode(name).lower()
    return any(fnmatchcase(text, pattern) for pattern in patterns)
