"""Where records lie: paths are normalised, and nothing odd gets in."""

import pyarrow as pa
import pytest

from scanners.importers import places
from scanners.importers.fields import Unparsable
from scanners.importers.places import Bounds

ANYWHERE = Bounds()


def files(*paths: bytes, bounds: Bounds = ANYWHERE) -> list[bytes]:
    placed = places.files(pa.array(paths, pa.binary()), bounds)
    parents = placed.directories.take(placed.numbers).to_pylist()
    return [
        places.path_of(parent).rstrip(b"/") + b"/" + name
        for parent, name in zip(parents, placed.names.to_pylist(), strict=True)
    ]


def directories(*paths: bytes, bounds: Bounds = ANYWHERE) -> list[bytes]:
    keys = places.directories(pa.array(paths, pa.binary()), bounds)
    assert places.paths_of(keys).to_pylist() == [places.path_of(key) for key in keys.to_pylist()]
    return [places.path_of(key) for key in keys.to_pylist()]


def test_paths_are_normalised_and_names_are_not() -> None:
    assert files(b"/a//b/./c\xff", b"/x", b"/a/...", b"/a/.b.", b"/\n/\n") == [
        b"/a/b/c\xff", b"/x", b"/a/...", b"/a/.b.", b"/\n/\n",
    ]  # fmt: skip
    assert directories(b"/a/b/", b"/", b"/a/.", b"//", b"/a/./b", b"/a\n") == [
        b"/a/b", b"/", b"/a", b"/", b"/a/b", b"/a\n",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "path", [b"a/b", b"/a/../b", b"/a/..", b"/..", b"/", b"", b"/a\0b", b"/a\0/b", b"."]
)
def test_files_that_are_nowhere(path: bytes) -> None:
    with pytest.raises(Unparsable):
        files(b"/good/one", path)


@pytest.mark.parametrize("path", [b"a", b"/a/..", b"/a/../b", b"/\0"])
def test_directories_that_are_nowhere(path: bytes) -> None:
    with pytest.raises(Unparsable):
        directories(b"/good", path)


def test_a_prefix_makes_paths_absolute() -> None:
    bounds = Bounds(prefix=b"/mnt/x")
    assert files(b"./b", b"/c", b"d/e", bounds=bounds) == [b"/mnt/x/b", b"/mnt/x/c", b"/mnt/x/d/e"]
    assert directories(b".", b"", b"/", b"d", bounds=bounds) == [
        b"/mnt/x", b"/mnt/x", b"/mnt/x", b"/mnt/x/d",
    ]  # fmt: skip


def test_everything_lies_in_a_root() -> None:
    bounds = Bounds(roots=(b"/a", b"/b/c"))
    assert files(b"/a/x", b"/b/c/y", b"/a/z/x", bounds=bounds)
    assert directories(b"/a", b"/b/c/d", bounds=bounds)
    for path in (b"/ab/x", b"/b/x", b"/x"):
        with pytest.raises(Unparsable, match="outside"):
            files(b"/a/x", path, bounds=bounds)


def test_a_subtree_is_contiguous_by_key() -> None:
    """By path `/a-b` and `/a.b` stand between `/a` and `/a/c`."""
    paths = [b"/a", b"/a-b", b"/a.b", b"/a/c", b"/"]
    assert sorted(paths, key=places.key_of) == [b"/", b"/a", b"/a/c", b"/a-b", b"/a.b"]
