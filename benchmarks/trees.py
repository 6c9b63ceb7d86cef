"""Real directory trees to walk: 30 files a directory, up to 12 levels deep, with real blocks."""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILES_PER_DIRECTORY = 30
MAX_BYTES = 1 << 20  # of a file: a third of them have blocks, some 3 GB in a million


@contextmanager
def tree(entries: int, seed: int = 1) -> Iterator[Path]:
    """A tree of so many files and directories, removed afterwards.

    Made below $BENCHMARK_DIR or the temporary directory, which should be a disk file system.
    """
    base = Path(tempfile.mkdtemp(prefix="datamgr-bench-", dir=os.environ.get("BENCHMARK_DIR")))
    try:
        _fill(base, entries, random.Random(seed))
        yield base
    finally:
        shutil.rmtree(base)


def _fill(base: Path, entries: int, chance: random.Random) -> None:
    made = 0
    level: list[tuple[bytes, int]] = [(os.fsencode(base), 0)]
    deepest = 12
    while made < entries:
        path, depth = level[chance.randrange(len(level))]
        directory = os.path.join(path, b"d%07d" % made)
        os.mkdir(directory)
        made += 1
        if depth + 1 < deepest:
            level.append((directory, depth + 1))
            if len(level) > 400:  # a moving front, so that the tree is deep rather than wide
                level.pop(0)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        for number in range(min(FILES_PER_DIRECTORY, entries - made)):
            file = os.open(
                b"file-%04d.dat" % number, os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=descriptor
            )
            if number % 3 == 0:
                os.posix_fallocate(file, 0, int(1000 * chance.paretovariate(0.8)) % MAX_BYTES + 1)
            os.close(file)
            made += 1
        os.close(descriptor)
