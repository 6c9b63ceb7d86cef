"""Which entry of the project somebody means, as bytes, and what is outside of it."""

import os
from pathlib import Path

import pytest

from datamgr.errors import InvalidError, NotFoundError
from pitoolbox import paths

ROOT = b"/cfs/cosmo"


def relative(given: bytes) -> bytes:
    return paths.relative(ROOT, given, lambda path: path == b"/global/cosmo")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (b".", b"."),
        (b"./", b"."),
        (b"/cfs/cosmo", b"."),
        (b"/cfs/cosmo/", b"."),
        (b"//cfs//cosmo//a//", b"a"),
        (b"a/b/", b"a/b"),
        (b"./a/./b", b"a/b"),
        (b"/cfs/cosmo/a", b"a"),
        (b"/global/cosmo/a", b"a"),
        (b"new\nline", b"new\nline"),
        (b"\xff\xfe", b"\xff\xfe"),
        (b" ", b" "),
        (b"..a/...", b"..a/..."),
        (b"cfs/cosmo", b"cfs/cosmo"),
    ],
)
def test_paths_are_absolute_or_below_the_project(given: bytes, meant: bytes) -> None:
    assert relative(given) == meant


@pytest.mark.parametrize(
    "given",
    [
        b"", b"/", b"..", b"../cosmo", b"a/../b", b"/cfs", b"/cfs/cosmology", b"/cfs/cosmo/../x",
        b"/etc/passwd", b"a\0b", b"x" * 256, b"/".join([b"x" * 200] * 21),
    ],
)  # fmt: skip
def test_what_is_outside_or_no_path_is_refused(given: bytes) -> None:
    with pytest.raises(InvalidError) as refusal:
        relative(given)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    "path", [b"", b"/", b"/a", b"a/", b"a//b", b"a/./b", b"./a", b"..", b"a\0"]
)
def test_what_is_stored_must_be_plain(path: bytes) -> None:
    with pytest.raises(InvalidError):
        paths.require_plain(path)


def test_what_can_be_seen_is_looked_at(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").touch()
    (tmp_path / "way").symlink_to("/etc")
    paths.look(root, b".")
    paths.look(root, b"real/file")
    paths.look(root, b"way")  # a link itself may be changed
    with pytest.raises(InvalidError, match="passes through the symbolic link"):
        paths.look(root, b"way/passwd")
    for missing in (b"nothing", b"real/file/below", b"real/nothing/x"):
        with pytest.raises(NotFoundError, match="there is no"):
            paths.look(root, missing)
