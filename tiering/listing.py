"""What there is at some paths, as `ghi ls` finds it: read by whoever asks, with his own rights."""

import os
import stat
from collections.abc import Iterator, Sequence

from datamgr import display

Found = tuple[bytes, os.stat_result]  # the path as it is to be shown


class Lister:
    """Reads directories; what cannot be read is kept as a line for each."""

    def __init__(self, *, everything: bool, is_sorted: bool, recursive: bool) -> None:
        self.errors: list[str] = []
        self._everything, self._is_sorted, self._recursive = everything, is_sorted, recursive

    def found(self, path: bytes) -> Iterator[Sequence[Found]]:
        """What `ls` shows of a path: itself, or a directory at a time what is in it."""
        try:
            status = os.lstat(path)
        except OSError as error:
            self._fail(path, error)
            return
        if not stat.S_ISDIR(status.st_mode):
            yield [(path, status)]
            return
        left = [path]
        while left:
            entries = self._scan(left.pop())
            yield entries
            if self._recursive:
                below = [path for path, status in entries if stat.S_ISDIR(status.st_mode)]
                left += reversed(below)

    def _scan(self, folder: bytes) -> list[Found]:
        try:
            with os.scandir(folder) as entries:
                found = [
                    (entry.path, entry.stat(follow_symlinks=False))
                    for entry in entries
                    if self._everything or not entry.name.startswith(b".")
                ]
        except OSError as error:
            self._fail(folder, error)
            return []
        if folder == b"." or folder.startswith(b"./"):
            found = [(path.removeprefix(b"./"), status) for path, status in found]
        if self._is_sorted:
            found.sort()
        return found

    def _fail(self, path: bytes, error: OSError) -> None:
        self.errors.append(f"{display.printable(path)}: {error.strerror}")
