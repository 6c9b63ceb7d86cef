"""File systems made for one test and taken away whatever happens; needs root."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import memory

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts, owners, devices")


@contextmanager
def ext4(folder: Path, size_bytes: int = 32 << 20) -> Iterator[Path]:
    """A fresh ext4 with blocks of 4 KiB, mounted below `folder`."""
    place = folder / "ext4"
    place.mkdir()
    with ext4_image(size_bytes) as image, mounted(place, "-o", "loop", image):
        yield place


@contextmanager
def ext4_image(size_bytes: int = 32 << 20) -> Iterator[Path]:
    """As `ext4`, not mounted yet."""
    with _image(size_bytes) as image:
        run("mkfs.ext4", "-q", "-b", "4096", "-I", "256", "-O", "^inline_data", image)
        yield image


@contextmanager
def xfs(folder: Path) -> Iterator[Path]:
    """A fresh xfs of the smallest size that there is, mounted below `folder`."""
    place = folder / "xfs"
    place.mkdir()
    with _image(320 << 20) as image:
        run("mkfs.xfs", "-q", image)
        with mounted(place, "-o", "loop", image):
            yield place


@contextmanager
def _image(size_bytes: int) -> Iterator[Path]:
    """A sparse file, whose blocks are free again with the last mount of it."""
    with tempfile.NamedTemporaryFile(prefix="datamgr-test-", dir=memory.place()) as file:
        file.truncate(size_bytes)
        yield Path(file.name)


@contextmanager
def tmpfs(place: Path, size_bytes: int) -> Iterator[Path]:
    """A fresh tmpfs of at most this size at `place`, which is made if missing."""
    place.mkdir(exist_ok=True)
    with mounted(place, "-t", "tmpfs", "-o", f"size={size_bytes}", "datamgr-test"):
        yield place


@contextmanager
def bind(source: Path, place: Path) -> Iterator[Path]:
    """`source`, a file or directory, once more at `place`."""
    with mounted(place, "--bind", source):
        yield place


@contextmanager
def mounted(place: Path, *arguments: str | Path) -> Iterator[None]:
    run("mount", *arguments, place)
    try:
        yield
    finally:
        # Lazily: what still has a file open must not keep the mount in everybody's way.
        run("umount", "--lazy", place)


def run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, capture_output=True)
