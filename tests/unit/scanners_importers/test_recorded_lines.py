"""Lines as real scanners wrote them, and what each becomes."""

import pytest

from scanners.importers.fields import Listed, Unparsable
from scanners.importers.formats import by_name

GPFS_BARE = b"37390 999490048 0   -- /gpfs/gpfsmgmt/fil2"
GPFS_UNESCAPED = b"1 1 0  4096 1 -- /path/with -- dashes"
GPFS_SHOWN = (
    b"544769 124953298 0  1%7C2026-01-15%2012%3A00%3A00.000000%7C2026-01-16%2012%3A00%3A00.000000"
    b"%7C2026-01-17%2012%3A00%3A00.000000%7C4096%7C1000%7C1001%7C-rw-r--r--%7Cproj%7Csystem%7C1"
    b" -- /gpfs/fs1/proj/a%20b.txt"
)
GPFS_COLUMNS = "-,atime_utc,mtime_utc,ctime_utc,size_bytes,uid,gid,permissions,-,-,nlink"
LESTER = b"1388534400|1388534401|1388534402|5001|100|100644|7|123456|12:3f2a,11:3f29|/proj/a.dat"
LESTER_FID = (
    b"1388534400|1388534401|1388534402|5001|100|100644|7|123456|12:3f2a"
    b"|0x200000400:0x1:0x0|/proj/a|b"
)


def only(listed: Listed) -> tuple[bytes, dict[str, object]]:
    assert len(listed.paths) == listed.fields.num_rows == 1
    return listed.paths[0].as_py(), listed.fields.to_pylist()[0]


def test_gpfs_with_the_columns_of_a_site() -> None:
    given = by_name("gpfs-list", GPFS_COLUMNS)
    for listed in (given.read_records([GPFS_SHOWN]), given.read_block(GPFS_SHOWN + b"\n")):
        path, fields = only(listed)
        assert path == b"/gpfs/fs1/proj/a b.txt"
        assert fields["ino"], fields["generation"] == (544769, 124953298)
        assert (fields["size_bytes"], fields["uid"], fields["gid"], fields["nlink"]) == (
            4096, 1000, 1001, 1,
        )  # fmt: skip
        assert str(fields["mtime_utc"]) == "2026-01-16 12:00:00"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (GPFS_BARE, "shows no attributes"),
        (GPFS_UNESCAPED, "encoded"),
        (b"iAggregate:0:5a4e:1d:4096:3:0:0:9!/gpfs/a:6!system", "encoded|Inode"),
        (b"1f:0:a3:1d!/gpfs/a", "Inode"),
        (GPFS_SHOWN.replace(b" -- ", b" - "), "Inode"),
        (GPFS_SHOWN + b"%2", "percent"),
        (GPFS_SHOWN + b"%zz", "percent"),
        (GPFS_SHOWN + b" x", "percent"),
        (GPFS_SHOWN + b"\xff", "percent"),
    ],
)
def test_gpfs_that_is_refused(line: bytes, said: str) -> None:
    """Unescaped lists are ambiguous, and bare ones say nothing."""
    given = by_name("gpfs-list", GPFS_COLUMNS)
    with pytest.raises(Unparsable, match=said):
        given.read_records([line])
    with pytest.raises(Unparsable):
        given.read_block(line + b"\n")


def test_gpfs_splits_at_the_first_dashes() -> None:
    """SHOW holds none, for it is encoded; a path that holds some bare ones is not."""
    given = by_name("gpfs-list", GPFS_COLUMNS)
    path, _ = only(given.read_records([GPFS_SHOWN.replace(b"a%20b", b"a%20--%20b")]))
    assert path == b"/gpfs/fs1/proj/a -- b.txt"
    with pytest.raises(Unparsable, match="ESCAPE"):
        given.read_records([GPFS_SHOWN.replace(b"a%20b", b"a -- b")])


def test_gpfs_plus_is_no_space() -> None:
    given = by_name("gpfs-list", GPFS_COLUMNS)
    for listed in (
        given.read_records([GPFS_SHOWN.replace(b"a%20b", b"a+b%2B%25%3D%FF")]),
        given.read_block(GPFS_SHOWN.replace(b"a%20b", b"a+b%2B%25%3D%FF") + b"\n"),
    ):
        assert only(listed)[0] == b"/gpfs/fs1/proj/a+b+%=\xff.txt"


def test_lester_in_its_order_of_times() -> None:
    """Access, change, modification: not as stat has them."""
    given = by_name("lester")
    for listed in (given.read_records([LESTER]), given.read_block(LESTER + b"\n")):
        path, fields = only(listed)
        assert path == b"/proj/a.dat"
        times = [int(fields[name]) for name in ("atime_s", "ctime_s", "mtime_s")]  # type: ignore[call-overload]
        assert times == [1388534400, 1388534401, 1388534402]
        assert (fields["mode"], fields["ino"]) == (b"100644", 123456)


def test_lester_with_a_fid_before_a_path_with_bars() -> None:
    """The path comes last and holds whatever is left."""
    given = by_name("lester")
    path, fields = only(given.read_records([LESTER_FID]))
    assert (path, fields["fid"]) == (b"/proj/a|b", b"0x200000400:0x1:0x0")
    path, fields = only(given.read_records([LESTER + b"|/c"]))
    assert path == b"/proj/a.dat|/c"
    assert "fid" not in fields


def test_rbh_find_is_no_format() -> None:
    """`rbh-find -ls` names users and does not escape; nobody takes it for another format."""
    line = (
        b"[0x20002b0a7:0x12715:0x0] file rw-r--r--   1  CanWood     OurTeam   1362109409280  "
        b"2022/01/22 12:30:23 /mnt/lustre/working/users/CanWood/reads_part1.tar"
    )
    for name in ("lfs-find", "lester", "gufi-trace", "gpfs-list"):
        with pytest.raises(Unparsable):
            by_name(name).read_records([line])
