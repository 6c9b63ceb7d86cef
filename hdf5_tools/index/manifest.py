"""Which segments an index has: one small file, replaced as a whole.

A reader that finds a segment gone, because it was compacted away in between, reads the manifest
again. Writers take turns by a lock; what a killed one left behind the next one removes.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from datamgr import display
from datamgr.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from hdf5_tools.index import container

FORMAT = 3
NAME = "manifest.json"


@dataclass(frozen=True)
class Entry:
    """A segment. `dead`: the file that lists its files which no longer count, if any."""

    segment: str
    files: int
    objects: int
    attributes: int
    dead: str | None = None
    dead_files: int = 0


@dataclass(frozen=True)
class Manifest:
    """The segments, oldest first; `made` counts the files ever made, to name the next one."""

    entries: tuple[Entry, ...] = ()
    made: int = 0


def load(folder: Path) -> Manifest:
    """The manifest of an index.

    Raises:
        NotFoundError: there is no index.
        InvalidError: it is of a format that this program does not know, or damaged.
        ForbiddenError: this account may not read it.
    """
    try:
        body = json.loads((folder / NAME).read_bytes())
        if body["format"] != FORMAT:
            raise InvalidError(
                f"the index {display.printable(folder)} has the format {body['format']}, this "
                f"datamgr reads {FORMAT}; remove it and make it again by `datamgr hdf5 index`"
            )
        return Manifest(tuple(Entry(**entry) for entry in body["entries"]), body["made"])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(
            f"there is no index {display.printable(folder)}; make it by `datamgr hdf5 index`"
        ) from error
    except PermissionError as error:
        raise may_not_be_read(folder) from error
    except (ValueError, KeyError, TypeError) as error:
        raise container.damaged(folder / NAME, "is damaged") from error


def may_not_be_read(folder: Path) -> ForbiddenError:
    """What to say of an index whose files are not for this account."""
    return ForbiddenError(f"the index {display.printable(folder)} may not be read by this account")


def store(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest; on disk when this returns."""
    body = {
        "format": FORMAT,
        "made": manifest.made,
        "entries": [asdict(entry) for entry in manifest.entries],
    }
    new = folder / f"{NAME}.new"
    with new.open("w") as file:
        json.dump(body, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(folder / NAME)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path) -> Iterator[Manifest]:
    """The manifest, while nobody else changes it; a new one in a folder that is missing or empty.

    Raises:
        ConflictError: another process changes the index.
        InvalidError: the folder holds something else, or is none.
        ForbiddenError: this account may not write there.
        UnavailableError: it cannot be written, or its disk is full; what was there still counts.
    """
    shown = display.printable(folder)
    try:
        with _locked(folder) as listed:
            yield listed
    except (FileExistsError, NotADirectoryError) as error:
        raise InvalidError(f"{shown} is no directory; an index is one of its own") from error
    except PermissionError as error:
        raise ForbiddenError(f"the index {shown} may not be written by this account") from error
    except OSError as error:
        raise UnavailableError(f"the index {shown} cannot be written: {error.strerror}") from error


@contextmanager
def _locked(folder: Path) -> Iterator[Manifest]:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / NAME).exists() and any(not _is_ours(path) for path in folder.iterdir()):
        raise InvalidError(f"{display.printable(folder)} is not empty and holds no index")
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            shown = display.printable(folder)
            raise ConflictError(f"another process changes the index {shown}") from error
        if (folder / NAME).exists():
            manifest = load(folder)
        else:
            manifest = Manifest()
            store(folder, manifest)
        clean(folder, manifest)
        yield manifest


def clean(folder: Path, manifest: Manifest) -> None:
    """Remove the files that the manifest does not name."""
    named = {name for entry in manifest.entries for name in (entry.segment, entry.dead)}
    for path in folder.iterdir():
        if path.suffix in (".segment", ".dead") and path.name not in named:
            path.unlink()


def numbered(manifest: Manifest, suffix: str) -> tuple[Manifest, str]:
    """The next name of a file, and the manifest that knows it."""
    made = manifest.made + 1
    return replace(manifest, made=made), f"{made:06}.{suffix}"


def _is_ours(path: Path) -> bool:
    return path.name in ("lock", f"{NAME}.new") or path.suffix in (".segment", ".dead")
