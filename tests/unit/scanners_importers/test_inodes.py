"""What the fields of a list say about an inode."""

import stat

import pytest

from datamgr.errors import InvalidError
from scanners import record
from scanners.importers import inodes
from scanners.importers.fields import Unparsable, parse_layout, read_csv

NAMES = record.ENTRIES.names[3:]


def inode(layout: str, *lines: str) -> list[dict[str, int]]:
    fields = read_csv("".join(line + "\n" for line in lines).encode(), layout.split(","), ",")
    columns = [column.to_pylist() for column in inodes.columns(fields)]
    return [dict(zip(NAMES, row, strict=True)) for row in zip(*columns, strict=True)]


REST = "uid,gid,size_bytes,mtime_s"


def test_permissions_are_those_that_ls_writes() -> None:
    """Every mode of every type is read back from stat.filemode."""
    kinds = [stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR]
    modes = [kind | bits for kind in kinds for bits in range(0o10000)]
    lines = [f"{stat.filemode(mode)},1,2,3,4" for mode in modes]
    assert [row["mode"] for row in inode("permissions," + REST, *lines)] == modes


def test_a_kind_goes_with_permissions_in_octal() -> None:
    rows = inode("kind,mode," + REST, "d,755,1,2,3,4", "f,100644,1,2,3,4", "l,777,1,2,3,4")
    assert [row["mode"] for row in rows] == [0o040755, 0o100644, 0o120777]


def test_what_is_missing() -> None:
    """Without blocks the size, without other times mtime, without inodes one link."""
    [row] = inode("kind," + REST, "f,1,2,300,-5.5")
    assert (row["alloc_bytes"], row["atime_s"], row["ctime_s"]) == (300, -5, -5)
    assert (row["ino"], row["nlink"]) == (0, 1)
    [row] = inode("kind,ino," + REST, "f,7,1,2,300,4")
    assert (row["ino"], row["nlink"]) == (7, 0)


def test_units_of_allocation() -> None:
    """5 KiB are 5120 bytes, 5 blocks 2560."""
    assert inode("kind,alloc_kb," + REST, "f,5,1,2,3,4")[0]["alloc_bytes"] == 5120
    assert inode("kind,blocks," + REST, "f,5,1,2,3,4")[0]["alloc_bytes"] == 2560


def test_the_largest_inode_number_is_kept_as_the_kernel_has_it() -> None:
    assert inode("kind,ino," + REST, f"f,{2**64 - 1},1,2,3,4")[0]["ino"] == -1


def test_fids_differ_by_sequence() -> None:
    """Lustre's inode numbers are unique within one sequence."""
    rows = inode("kind,ino,fid," + REST, "f,1,[0x200000400:0x1:0x0],1,2,3,4",
                 "f,1,0xffffffffffffffff:0x1:0x0,1,2,3,4")  # fmt: skip
    assert [row["dev"] for row in rows] == [0x200000400, -1]


def test_generations_and_snapshots_tell_inodes_apart() -> None:
    rows = inode("kind,ino,generation,snapshot," + REST, "f,1,5,0,1,2,3,4", "f,1,5,7,1,2,3,4")
    assert [row["dev"] for row in rows] == [5, 5 + (7 << 32)]


def test_times_before_1970_are_whole_seconds_below() -> None:
    """1.5 s before 1970 is second -2; find writes it as -2.5."""
    layout = "kind,uid,gid,size_bytes,mtime_utc,atime_s"
    [row] = inode(layout, "f,1,2,3,1969-12-31 23:59:58.500000,-2.5000000000")
    assert (row["mtime_s"], row["atime_s"]) == (-2, -2)


@pytest.mark.parametrize(
    ("layout", "line"),
    [
        ("kind," + REST, "f,-1,2,3,4"),
        ("kind," + REST, "f,1,2,-3,4"),
        ("kind," + REST, "f,1,2,9223372036854775808,4"),
        ("kind," + REST, "f,1,2,3,9223372036854775807"),
        ("kind," + REST, "f,1,2,3.5,4"),
        ("kind," + REST, "f,1,2,12K,4"),
        ("kind," + REST, "f,ada,2,3,4"),
        ("kind," + REST, "f,1,2,3,2026-01-15"),
        ("kind," + REST, "f,1,2,,4"),
        ("kind," + REST, "f,1,2,3"),
        ("kind," + REST, "f,1,2,3,4,5"),
        ("kind," + REST, "file,1,2,3,4"),
        ("mode," + REST, "644,1,2,3,4"),
        ("mode," + REST, "100648,1,2,3,4"),
        ("mode_decimal," + REST, "99999999999,1,2,3,4"),
        ("permissions," + REST, "rw-r--r--,1,2,3,4"),
        ("kind,alloc_kb," + REST, "f,9223372036854775807,1,2,3,4"),
        ("kind,ino,fid," + REST, "f,1,0x,1,2,3,4"),
    ],
)
def test_what_is_no_value(layout: str, line: str) -> None:
    """Rounded sizes, names of users, what is negative or beyond 64 bits: nothing is guessed."""
    with pytest.raises(Unparsable):
        inode(layout, line)


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ("path,kind,uid,gid,size_bytes", "mtime_s or mtime_utc is missing"),
        ("path,kind,uid,gid,size,mtime_s", "no field 'size'.*size_bytes"),
        ("path,kind,uid,uid,gid,size_bytes,mtime_s", "uid is there twice"),
    ],
)
def test_layouts_that_are_refused(layout: str, said: str) -> None:
    with pytest.raises(InvalidError, match=said):
        parse_layout(layout)
