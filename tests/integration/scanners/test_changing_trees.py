"""Trees that change during the walk: every run completes, and nothing outside is recorded."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from datamgr.errors import UnavailableError
from scanners import directory, nofollow
from scanners.walk import Progress
from tests import adversary, mounts, trees
from tests.walked import walked


@pytest.mark.soak
def test_a_walk_among_swapped_and_vanishing_directories_completes_inside(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    full, number = (request.config.getoption(name) for name in ("--full-soak", "--seed"))
    number = time.time_ns() if number is None else number
    print(f"--seed {number}")
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    adversary.prepare(tree, outside)
    for name in range(50):
        adversary.fill(tree / f"still/{name}", "kept")
    still = sorted(map(bytes, (tree / "still").rglob("kept-*")))
    assert len(still) == 50 * adversary.FILES
    argv = [sys.executable, "-m", "tests.adversary", tree, outside, str(number)]
    seen = 0
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as changing:
        try:
            assert changing.stdout is not None
            assert changing.stdout.readline() == b"ready\n"
            end = time.monotonic() + (120 if full else 6)
            while time.monotonic() < end:
                found = walked([tree], tmp_path / "scan", workers=2)
                shutil.rmtree(tmp_path / "scan")
                named = [*found.paths, *found.files, *found.named]
                assert [path for path in named if adversary.SECRET.encode() in path] == []
                assert [path for path in found.files if b"/still/" in path] == still
                assert set(found.result.errors) <= {"vanished", "replaced"}
                seen += len(found.errors)
            assert changing.poll() is None
        finally:
            changing.kill()
    print(f"{seen} directories and files were met while they changed")
    assert seen > 0, "nothing changed under the walk"


@contextmanager
def stopped() -> Iterator[None]:
    """Time stands still for the walking processes."""
    processes = walkers()
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def walkers() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "spawn_main" in str(p.cmdline())]


def test_a_directory_that_vanishes_while_it_is_listed_keeps_what_was_seen(
    in_memory: Path, tmp_path: Path
) -> None:
    """The first row group was taken; of the rest the kernel says that it is gone."""
    for small in range(50):
        adversary.fill(in_memory / f"small-{small}", "file")
    kept = sorted(map(bytes, in_memory.rglob("file-*")))
    (in_memory / "wide").mkdir()
    trees.make_many_files(in_memory / "wide", 300_000)
    removed = []

    def remove(seen: Progress) -> None:
        if seen.entries >= 65_536 and not removed:
            with stopped():
                shutil.rmtree(in_memory / "wide")
            removed.append(seen)

    found = walked([in_memory], tmp_path / "scan", workers=1, on_progress=remove)
    assert removed
    wide = [path for path in found.files if b"/wide/" in path]
    assert 65_536 <= len(wide) < 300_000
    assert set(found.named.values()) <= {"vanished"}
    assert [path for path in found.files if b"/small-" in path] == kept


@mounts.needs_root
@pytest.mark.root
def test_a_directory_that_cannot_be_read_to_its_end_is_named_and_its_neighbours_are_right(
    tmp_path: Path,
) -> None:
    """A damaged block in the middle of an ext4 directory: what was listed before it counts."""
    place = tmp_path / "mounted"
    place.mkdir()
    with mounts.ext4_image() as image:
        with mounts.mounted(place, "-o", "loop", image):
            for small in range(50):
                adversary.fill(place / f"tree/small-{small}", "file")
            (place / "tree/wide").mkdir()
            for number in range(5000):
                (place / f"tree/wide/{number:0200}").touch()
        blocks = subprocess.run(
            ["debugfs", "-R", "blocks /tree/wide", image],
            check=True, capture_output=True, text=True,
        ).stdout.split()  # fmt: skip
        # The first block is the root of the tree of hashes, the others hold some 19 names each.
        assert len(blocks) > 200
        with image.open("r+b") as file:
            file.seek(4096 * int(blocks[len(blocks) // 2]))
            file.write(b"\0" * 4096)
        with mounts.mounted(place, "-o", "loop,ro", image):
            found = walked([place / "tree"], tmp_path / "scan", workers=1)
    wide = os.fsencode(place / "tree/wide")
    assert found.named == {wide: "io"}
    assert [row["error"] for row in found.dirs if row["path"] == wide] == ["io"]
    assert 0 < len([path for path in found.files if path.startswith(wide)]) < 5000
    small = [path for path in found.files if b"/small-" in path]
    assert len(small) == 50 * adversary.FILES


def make_ways(folder: Path, levels: int, name: bytes) -> tuple[bytes, bytes]:
    """Two paths of one directory: the real one, and one through a symbolic link half-way."""
    real = os.fsencode(folder / "real")
    os.mkdir(real)
    os.symlink("real", os.path.join(os.fsencode(folder), b"link"))
    below = b"/".join([name] * levels)
    return os.path.join(real, below), os.path.join(os.fsencode(folder), b"link", below)


@pytest.mark.parametrize("levels", [3, 40], ids=["short", "beyond PATH_MAX"])
@pytest.mark.parametrize("modern", [True, False], ids=["openat2", "before Linux 5.6"])
def test_a_directory_is_never_reached_through_a_symbolic_link(
    tmp_path: Path, levels: int, modern: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the link stands: a swapped directory may lie far above the one that is opened."""
    if not modern:
        monkeypatch.setattr(nofollow, "takes_paths", lambda: False)
    real, linked = make_ways(tmp_path, levels, b"d" * 200)
    with trees.chain(tmp_path / "real", levels, b"d" * 200):
        descriptor = directory.open_directory(real)
        try:
            assert os.listdir(descriptor) == ["leaf"]
        finally:
            os.close(descriptor)
        with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
            directory.open_directory(linked)


@mounts.needs_root
@pytest.mark.root
def test_another_directory_of_the_same_number_on_another_file_system_is_not_entered(
    tmp_path: Path,
) -> None:
    """Also with cross_mounts: inode numbers repeat from one file system to the next."""
    with (
        mounts.tmpfs(tmp_path / "tree", 64 * trees.MIB) as tree,
        mounts.tmpfs(tmp_path / "outside", 64 * trees.MIB) as outside,
    ):
        for place, name in ((tree, "file"), (outside, adversary.SECRET)):
            (place / "a").mkdir()
            trees.make_many_directories(place / "a", 50_000)
            # The newest is listed first and visited last, when `a` is another.
            adversary.fill(place / "a/b", name)
        assert (tree / "a/b").stat().st_ino == (outside / "a/b").stat().st_ino
        swapped = []

        def swap(seen: Progress) -> None:
            if not swapped and seen.directories > 10:
                swapped.append(seen)
                (tree / "a").rename(tree / "away")
                (tree / "a").symlink_to(outside / "a")

        found = walked([tree], tmp_path / "scan", workers=1, cross_mounts=True, on_progress=swap)
        assert swapped
    assert [path for path in found.files if adversary.SECRET.encode() in path] == []


def test_a_killed_walking_process_ends_the_walk_with_a_sentence(
    in_memory: Path, tmp_path: Path
) -> None:
    trees.make_many_directories(in_memory, 50_000)

    def kill(seen: Progress) -> None:
        if seen.directories > 10:
            walkers()[0].kill()

    with pytest.raises(UnavailableError, match="a walking process was killed"):
        walked([in_memory], tmp_path / "scan", on_progress=kill)
    assert walkers() == []


def test_an_idle_walking_process_that_was_killed_ends_the_walk_too(tmp_path: Path) -> None:
    """One directory only, so that one of the two processes never has work."""
    (tmp_path / "tree").mkdir()
    killed = []

    def kill(_: Progress) -> None:
        if not killed:
            killed.extend(walkers())
            for process in killed:
                process.kill()

    with pytest.raises(UnavailableError, match="a walking process was killed"):
        walked([tmp_path / "tree"], tmp_path / "scan", on_progress=kill)


def test_an_exception_of_on_progress_stops_the_walk_and_its_processes(
    in_memory: Path, tmp_path: Path
) -> None:
    trees.make_many_directories(in_memory, 50_000)

    def interrupt(seen: Progress) -> None:
        if seen.directories > 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        walked([in_memory], tmp_path / "scan", on_progress=interrupt)
    assert walkers() == []
