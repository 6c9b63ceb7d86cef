"""File systems made for one test and taken away whatever happens; needs root."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts, owners, devices")


@contextmanager
def ext4(folder: Path, size_bytes: int = 32 << 20) -> Iterator[Path]:
    """A fresh ext4 with blocks of 4 KiB, in an image below `folder`."""
    image, place = folder / "ext4.img", folder / "ext4"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(size_bytes)
    run("mkfs.ext4", "-q", "-b", "4096", "-I", "256", "-O", "^inline_data", image)
    with mounted(place, "-o", "loop", image):
        yield place


@contextmanager
def xfs(folder: Path) -> Iterator[Path]:
    """A fresh xfs of the smallest size that there is, in a sparse image below `folder`."""
    image, place = folder / "xfs.img", folder / "xfs"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(320 << 20)
    run("mkfs.xfs", "-q", image)
    with mounted(place, "-o", "loop", image):
        yield place


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
