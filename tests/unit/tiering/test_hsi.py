"""What `hsi ls -P` has printed at sites, as their public scripts and tests have it."""

import pytest

from tiering.archive import hsi
from tiering.archive.hsi import Listed
from tiering.archive.store import ArchiveError, Place

# A comment of NERSC's generate_sorted_list_for_hpss.py.
NERSC = (
    b"FILE\t/home/l/lgerhard/159240_test.tar\t2465280\t2465280\t111+1121698225\tEG010100\t4\t0\t1\t"
    b"11/06/2013\t08:47:20\t02/24/2017\t13:01:15\n"
)
# Over two volumes; then a prompt and the error of the next command of the same session.
TWO_VOLUMES = (
    b"FILE\t/path/to/remote/1000.tar\t51320295424\t51320295424\t427+1351567309546\t"
    b"AU297200,AU297300\t12\t0\t1\t04/27/2013\t15:19:08\t09/12/2013\t10:04:51A:/home/e/edlee-> "
    b"*** ls: No such file or directory [-2: HPSS_ENOENT]\n    /path/to/remote/my_file_2.gz"
)
ON_DISK = b"FILE\t/home/a/young.tar\t10\t10\t\t\t4\t0\t1\t11/06/2013\t08:47:20\t\t\n"


def test_what_sites_saw_is_understood() -> None:
    said = b"/home:\nDIRECTORY\t/home/l\n" + NERSC + ON_DISK + TWO_VOLUMES
    assert list(hsi.parse_listing(said)) == [
        Listed(
            "/home/l/lgerhard/159240_test.tar", 2_465_280, Place("EG0101", (111, 1_121_698_225))
        ),
        Listed("/home/a/young.tar", 10, None),
        Listed(
            "/path/to/remote/1000.tar", 51_320_295_424, Place("AU2972", (427, 1_351_567_309_546))
        ),
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"FILE",
        b"FILE\t/a",
        b"FILE\t/a\tmany\t1\t\t",
        b"FILE\t/a\t1\t1\t1+x\tEG010100",
        b"FILE\t/a\t1",
    ],
)
def test_a_line_that_is_cut_off_or_garbage_is_an_error(line: bytes) -> None:
    with pytest.raises(ArchiveError, match="no list"):
        list(hsi.parse_listing(NERSC + line))


def test_nothing_is_nothing() -> None:
    assert list(hsi.parse_listing(b"")) == []
